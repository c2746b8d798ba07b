package announcer

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// A Service whose endpoints change has its own addresses decided again, however many
// others there are.
func TestChangeLooksAtItsOwnAddresses(t *testing.T) {
	for _, n := range []int{10, 1000} {
		s, ready := crowd(n), map[netip.Addr]bool{}
		in := Input{Snapshot: s, Node: "a", Self: snapshot.Electable{Node: "a", InSync: true}, Alive: map[string]bool{"a": true}, Ready: ready}
		var d Decider
		d.Decide(in)
		d.looked = 0
		next := *s
		next.Services = slices.Clone(s.Services)
		changed := *s.Services[n/2]
		changed.Endpoints = changed.Endpoints[:1]
		next.Services[n/2] = &changed
		in.Snapshot, in.Changes = &next, snapshot.Diff(s, &next)
		got := d.Decide(in)
		if want := Decide(in); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if d.looked != 1 {
			t.Errorf("of %d addresses, it looked at %d", n, d.looked)
		}
	}
}

// crowd is a cluster of the node a and n Services with an address and two endpoints each.
func crowd(n int) *snapshot.Snapshot {
	s := &snapshot.Snapshot{Nodes: []*snapshot.Node{{Name: "a", Ready: true}}}
	for i := range n {
		addr := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		svc := &snapshot.Service{Ref: snapshot.Ref{Namespace: "d", Name: fmt.Sprintf("s%05d", i)}, UID: fmt.Sprint(i), Type: snapshot.LoadBalancer}
		for j := range 2 {
			svc.Endpoints = append(svc.Endpoints, snapshot.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(j), byte(i >> 8), byte(i)}), 80), Ready: true, Serving: true})
		}
		s.Services = append(s.Services, svc)
		s.Addresses = append(s.Addresses, &snapshot.Address{Addr: addr, Holders: []snapshot.Holder{{Ref: svc.Ref, UID: svc.UID}}})
	}
	return s
}
