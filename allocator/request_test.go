package allocator

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fairlead/fairlead/internal/snapshot"
)

func TestParseRequest(t *testing.T) {
	for _, row := range []struct {
		name  string
		notes map[string]string
		lbIP  string
		want  string // addresses, pool, key, namespaces; or the Reason
	}{
		{name: "nothing", want: "|||"},
		{name: "blank counts as absent", notes: map[string]string{AnnotationAddresses: " ", AnnotationPool: "\t"}, want: "|||"},
		{name: "one", notes: map[string]string{AnnotationAddresses: " 192.0.2.1 "}, want: "192.0.2.1|||"},
		{name: "two, any order", notes: map[string]string{AnnotationAddresses: "2001:DB8::1 , 192.0.2.1"}, want: "192.0.2.1,2001:db8::1|||"},
		{name: "synonyms agree", notes: map[string]string{AnnotationAddresses: "192.0.2.1,2001:db8::1", "metallb.io/loadBalancerIPs": "2001:db8:0::1,192.0.2.1"}, want: "192.0.2.1,2001:db8::1|||"},
		{name: "synonyms differ", notes: map[string]string{AnnotationShareKey: "a", "metallb.io/allow-shared-ip": "b"}, want: "ConflictingRequest"},
		{name: "pool and key", notes: map[string]string{AnnotationPool: "lan.1", AnnotationShareKey: "key to 192.0.2.1"}, want: "|lan.1|key to 192.0.2.1|"},
		{name: "namespaces", notes: map[string]string{AnnotationShareNamespaces: "b, a,b"}, want: "|||a,b"},
		{name: "field", lbIP: "192.0.2.1", want: "192.0.2.1|||"},
		{name: "field and annotation", lbIP: "192.0.2.1", notes: map[string]string{AnnotationAddresses: "192.0.2.2"}, want: "ConflictingRequest"},
		{name: "leading zero", notes: map[string]string{AnnotationAddresses: "192.0.2.01"}, want: "InvalidRequest"},
		{name: "prefix", notes: map[string]string{AnnotationAddresses: "192.0.2.1/32"}, want: "InvalidRequest"},
		{name: "not UTF-8", notes: map[string]string{AnnotationAddresses: "\xff\xfe"}, want: "InvalidRequest"},
		{name: "upper case pool", notes: map[string]string{AnnotationPool: "Lan"}, want: "InvalidRequest"},
		{name: "long key", notes: map[string]string{AnnotationShareKey: strings.Repeat("k", 254)}, want: "InvalidRequest"},
		{name: "empty namespace", notes: map[string]string{AnnotationShareNamespaces: "a,,b"}, want: "InvalidRequest"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, why := parseRequest(&snapshot.Service{Annotations: row.notes, LoadBalancerIP: row.lbIP})
			got := join(r.addrs) + "|" + r.pool + "|" + r.key + "|" + strings.Join(r.consent, ",")
			if why != nil {
				got = string(why.Reason)
			}
			if got != row.want {
				t.Errorf("got %s, want %s (%v)", got, row.want, why)
			}
		})
	}
}

// FuzzRequest: whatever stands in the annotations, the request is one that a
// decision can follow, or a refusal whose message is short, printable text.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{"", "192.0.2.1", "192.0.2.1,2001:db8::1", "::ffff:192.0.2.1", "fe80::1%eth0", "192.0.2.1,,", "ключ", "\x00", "a,b", "lan"} {
		f.Add(seed, seed, seed, seed, seed)
	}
	f.Fuzz(func(t *testing.T, addresses, pool, key, namespaces, lbIP string) {
		svc := &snapshot.Service{LoadBalancerIP: lbIP, Annotations: map[string]string{AnnotationAddresses: addresses,
			AnnotationPool: pool, "metallb.io/allow-shared-ip": key, AnnotationShareNamespaces: namespaces}}
		r, why := parseRequest(svc)
		if why != nil {
			if why.Reason != InvalidRequest && why.Reason != ConflictingRequest {
				t.Errorf("reason %s", why.Reason)
			}
			if len(why.Message) > 600 || !utf8.ValidString(why.Message) || strings.ContainsFunc(why.Message, func(r rune) bool { return r < ' ' }) {
				t.Errorf("message %q", why.Message)
			}
			return
		}
		if len(r.addrs) > 2 || !slices.IsSortedFunc(r.addrs, netip.Addr.Compare) {
			t.Errorf("addresses %v", r.addrs)
		}
		for _, a := range r.addrs {
			if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
				t.Errorf("address %v", a)
			}
		}
		if len(r.key) > shareKeyMax || !slices.IsSorted(r.consent) {
			t.Errorf("key %q, consent %q", r.key, r.consent)
		}
	})
}

// TestHoldersMax: the next sharer after the last that a record can store gets
// another address.
func TestHoldersMax(t *testing.T) {
	s := full(0)
	for i := range holdersMax + 1 {
		v := exampleService(i)
		v.Namespace, v.Annotations = "z", map[string]string{AnnotationShareKey: "K"}
		v.Ports = []snapshot.Port{{Protocol: snapshot.TCP, Port: uint16(1 + i)}}
		s.Services = append(s.Services, v)
	}
	p := Decide(s, ours)
	if len(p.Addresses) != 2 || len(p.Addresses[0].Holders) != holdersMax || len(p.Addresses[1].Holders) != 1 {
		t.Errorf("got %d addresses", len(p.Addresses))
	}
}
