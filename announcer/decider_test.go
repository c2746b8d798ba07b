package announcer_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// A Decider, which remembers, decides what Decide does, whatever changes from one
// Input to the next. What did not change keeps its pointer.
func TestDeciderMemoryDoesNotShow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &changing{t: t}
		for range 8 {
			w.change()
		}
		var d announcer.Decider
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			w.change()
			in := w.input()
			if got, want := d.Decide(in), announcer.Decide(in); !reflect.DeepEqual(got, want) {
				t.Fatalf("with a memory:\n%+v\nwant\n%+v", got, want)
			}
		}
	})
}

// changing is a small cluster where one value at a time is replaced.
type changing struct {
	t         *rapid.T
	services  [4]*snapshot.Service
	addresses [4]*snapshot.Address
	nodes     [3]*snapshot.Node
	states    [3]*snapshot.NodeState
	self      snapshot.Electable
	alive     [3]bool
	ready     [4]bool
}

func (w *changing) n(limit int) int { return rapid.IntRange(0, limit-1).Draw(w.t, "n") }

func (w *changing) change() {
	i, node := w.n(4), w.n(3)
	switch w.n(7) {
	case 0:
		w.services[i] = w.service(i)
	case 1:
		w.addresses[i] = w.address(i)
	case 2:
		w.nodes[node] = &snapshot.Node{Name: fmt.Sprint("n", node), Ready: w.n(4) > 0}
	case 3:
		w.states[node] = w.state(node)
	case 4:
		w.self = w.state(0).Electable
	case 5:
		w.alive[node] = w.n(4) > 0
	case 6:
		w.ready[i] = w.n(2) == 0
	}
}

func (w *changing) service(i int) *snapshot.Service {
	if w.n(4) == 0 {
		return nil
	}
	s := &snapshot.Service{Ref: snapshot.Ref{Namespace: "d", Name: fmt.Sprint(i)}, UID: fmt.Sprint(w.n(2)), Type: snapshot.LoadBalancer}
	if w.n(3) == 0 {
		s.ExternalTrafficPolicy = snapshot.PolicyLocal
	}
	for j := range w.n(3) {
		s.Endpoints = append(s.Endpoints, snapshot.Endpoint{
			Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i), byte(j)}), 80), Ready: true, Serving: true, Node: fmt.Sprint("n", w.n(3)),
		})
	}
	return s
}

func (w *changing) address(i int) *snapshot.Address {
	if w.n(4) == 0 {
		return nil
	}
	a := &snapshot.Address{Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), Deleting: w.n(6) == 0}
	if w.n(4) == 0 {
		a.Conflict = "02:00:00:00:00:01"
	}
	for range 1 + w.n(2) {
		a.Holders = append(a.Holders, snapshot.Holder{Ref: snapshot.Ref{Namespace: "d", Name: fmt.Sprint(w.n(4))}, UID: fmt.Sprint(w.n(2))})
	}
	return a
}

func (w *changing) state(node int) *snapshot.NodeState {
	return &snapshot.NodeState{Electable: snapshot.Electable{
		Node: fmt.Sprint("n", node), InSync: w.n(4) > 0, Draining: w.n(4) == 0,
		Links: []snapshot.Link{{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}},
	}}
}

func (w *changing) input() announcer.Input {
	in := announcer.Input{Snapshot: &snapshot.Snapshot{}, Node: "n0", Self: w.self, Alive: map[string]bool{}, Ready: map[netip.Addr]bool{}}
	for i := range w.services {
		if w.services[i] != nil {
			in.Snapshot.Services = append(in.Snapshot.Services, w.services[i])
		}
		if w.addresses[i] != nil {
			in.Snapshot.Addresses = append(in.Snapshot.Addresses, w.addresses[i])
		}
		in.Ready[netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})] = w.ready[i]
	}
	for i := range w.nodes {
		if w.nodes[i] != nil {
			in.Snapshot.Nodes = append(in.Snapshot.Nodes, w.nodes[i])
		}
		if w.states[i] != nil {
			in.Snapshot.NodeStates = append(in.Snapshot.NodeStates, w.states[i])
		}
		in.Alive[fmt.Sprint("n", i)] = w.alive[i]
	}
	return in
}
