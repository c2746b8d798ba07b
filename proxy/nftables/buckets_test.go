package nftables

import (
	"fmt"
	"net/netip"
	"testing"
)

func endpointsAt(port uint16, pods ...int) (out []netip.AddrPort) {
	for _, p := range pods {
		out = append(out, netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("10.1.0.%d", p)), port))
	}
	return out
}

// Buckets depend on the pods and not on the port, are spread evenly, and only those of a
// pod that goes get others.
func TestBuckets(t *testing.T) {
	if buckets(nil) != nil {
		t.Error("buckets without endpoints")
	}
	sip, media := buckets(endpointsAt(5060, 1, 2, 3, 4)), buckets(endpointsAt(40982, 1, 2, 3, 4))
	without := buckets(endpointsAt(5060, 1, 3, 4))
	count := map[netip.Addr]int{}
	for b := range sip {
		if sip[b].Addr() != media[b].Addr() {
			t.Fatalf("bucket %d has %s and %s", b, sip[b], media[b])
		}
		if gone := endpointsAt(5060, 2)[0]; sip[b] != gone && without[b] != sip[b] || without[b] == gone {
			t.Errorf("bucket %d went from %s to %s", b, sip[b], without[b])
		}
		count[sip[b].Addr()]++
	}
	for pod, n := range count {
		if n < clientBuckets/4/2 || n > clientBuckets/4*2 {
			t.Errorf("%s has %d of %d buckets", pod, n, len(sip))
		}
	}
}

// The name of a chain says all of a balance.
func TestBalanceNames(t *testing.T) {
	for _, b := range []balance{{n: 3}, {n: 3, sticky: 60}, {n: clientBuckets, byClient: true}, {variant: variant{byNodePort, true}, n: clientBuckets, byClient: true}} {
		if got, ok := parseBalance(b.String()); !ok || got != b {
			t.Errorf("%s is read as %+v, %t", b, got, ok)
		}
	}
	if _, ok := parseBalance("lb-3-by-client-sticky-60"); ok {
		t.Error("a chain that nobody writes is read")
	}
}
