package allocator

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"go4.org/netipx"

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
		{name: "long list", notes: map[string]string{AnnotationShareNamespaces: strings.Repeat("a,", LongestAnnotation/2-1) + "a"}, want: "|||a"},
		{name: "longer list", notes: map[string]string{AnnotationShareNamespaces: strings.Repeat("a,", LongestAnnotation/2) + "a"}, want: "InvalidRequest"},
		{name: "several addresses", notes: map[string]string{AnnotationAddresses: "192.0.2.2,192.0.2.1,2001:db8::1"}, want: "192.0.2.1,192.0.2.2,2001:db8::1|||"},
		{name: "an address twice", notes: map[string]string{AnnotationAddresses: "192.0.2.1,192.0.2.1"}, want: "InvalidRequest"},
		{name: "nine addresses", notes: map[string]string{AnnotationAddresses: strings.Repeat("192.0.2.1,", 8) + "192.0.2.2"}, want: "InvalidRequest"},
		{name: "field and several", lbIP: "192.0.2.1", notes: map[string]string{AnnotationAddresses: "192.0.2.1,192.0.2.2"}, want: "ConflictingRequest"},
		{name: "several pools", notes: map[string]string{AnnotationPool: "public, private"}, want: "|public,private||"},
		{name: "a pool twice", notes: map[string]string{AnnotationPool: "lan,lan"}, want: "InvalidRequest"},
		{name: "five pools", notes: map[string]string{AnnotationPool: "a,b,c,d,e"}, want: "InvalidRequest"},
		{name: "an empty pool", notes: map[string]string{AnnotationPool: "a,"}, want: "InvalidRequest"},
		{name: "ranges of ports", notes: map[string]string{AnnotationPorts: "10000-20000/udp,all/tcp"}, want: "|||"},
		{name: "bad ranges of ports", notes: map[string]string{AnnotationPorts: "20000-10000/udp"}, want: "InvalidRequest"},
		{name: "empty namespace", notes: map[string]string{AnnotationShareNamespaces: "a,,b"}, want: "InvalidRequest"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, why := parseRequest(&snapshot.Service{Annotations: row.notes, LoadBalancerIP: row.lbIP})
			got := join(r.addrs) + "|" + r.poolText() + "|" + r.key + "|" + strings.Join(r.consent, ",")
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
		if len(r.addrs) > addrsMax || !slices.IsSortedFunc(r.addrs, netip.Addr.Compare) {
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

// A claim that the Address kind cannot store is refused, keeps what it holds, and
// nobody joins it.
func TestTooLarge(t *testing.T) {
	big := func(n int) *snapshot.Service {
		svc := &snapshot.Service{
			Ref: snapshot.Ref{Namespace: "z", Name: "big"}, UID: "big", Type: snapshot.LoadBalancer,
			ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, Annotations: map[string]string{AnnotationShareKey: "K"},
		}
		for i := range n {
			svc.Ports = append(svc.Ports, snapshot.Port{Protocol: snapshot.TCP, Port: uint16(i + 1)})
		}
		return svc
	}
	small := &snapshot.Service{
		Ref: snapshot.Ref{Namespace: "z", Name: "small"}, UID: "small", Type: snapshot.LoadBalancer, Ports: []snapshot.Port{{Port: 65535}},
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.2")}, Annotations: map[string]string{AnnotationShareKey: "K"},
	}
	from := netip.MustParseAddr("192.0.2.0")
	pool := &snapshot.Pool{Name: "lan", AutoAssign: true, Ranges: []netipx.IPRange{netipx.IPRangeFrom(from, from.Next())}}
	record := &snapshot.Address{Addr: from, Pool: "lan", ShareKey: "K", Holders: []snapshot.Holder{{Ref: big(0).Ref, UID: "big"}}}
	for _, tc := range []struct {
		name  string
		ports int
		held  bool
		want  string
	}{
		{"as many as there may be", portsMax, false, "assign z/big 192.0.2.0 pool=lan\nassign z/small 192.0.2.0 pool=lan\n"},
		{"one more", portsMax + 1, false, "refuse z/big TooLarge\nassign z/small 192.0.2.0 pool=lan\n"},
		{"a holder that grows", portsMax + 1, true, "keep z/big 192.0.2.0 pool=lan refused=TooLarge\nassign z/small 192.0.2.1 pool=lan\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &snapshot.Snapshot{Services: []*snapshot.Service{big(tc.ports), small}, Pools: []*snapshot.Pool{pool}}
			if tc.held {
				s.Addresses = []*snapshot.Address{record}
			}
			p := Decide(s, Options{DefaultClass: true})
			if p.String() != tc.want {
				t.Errorf("got\n%swant\n%s", p, tc.want)
			}
			for _, a := range p.Addresses {
				for _, h := range a.Holders {
					if len(h.Ports) > portsMax {
						t.Errorf("the record of %s is to have %d ports of %s", a.Addr, len(h.Ports), h.Ref)
					}
				}
			}
		})
	}
}
