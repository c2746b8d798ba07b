package record_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/record"
	"github.com/fairlead/fairlead/internal/snapshot"
)

var (
	ip1 = netip.MustParseAddr("192.0.2.1")
	ip2 = netip.MustParseAddr("192.0.2.2")
	web = snapshot.Ref{Namespace: "a", Name: "web"}
	db  = snapshot.Ref{Namespace: "a", Name: "db"}
)

func holder(ref snapshot.Ref, ports ...uint16) snapshot.Holder {
	h := snapshot.Holder{Ref: ref, UID: "uid-" + ref.Name}
	for _, p := range ports {
		h.Ports = append(h.Ports, snapshot.HeldPort{Protocol: snapshot.TCP, Port: p})
	}
	return h
}

func TestWrites(t *testing.T) {
	have := func(addr netip.Addr, holders ...snapshot.Holder) *snapshot.Address {
		return &snapshot.Address{Addr: addr, Pool: "lan", UID: "u", ResourceVersion: "7", Holders: holders}
	}
	want := func(addr netip.Addr, holders ...snapshot.Holder) allocator.AddressWant {
		return allocator.AddressWant{Addr: addr, Pool: "lan", Holders: holders}
	}
	for _, tc := range []struct {
		name string
		have []*snapshot.Address
		want []allocator.AddressWant
		op   string // of ip1: create, update, delete or ""
		lost int
	}{
		{"new", nil, []allocator.AddressWant{want(ip1, holder(web, 80))}, "create", 0},
		{"same", []*snapshot.Address{have(ip1, holder(web, 80))}, []allocator.AddressWant{want(ip1, holder(web, 80))}, "", 0},
		{"port changed", []*snapshot.Address{have(ip1, holder(web, 80))}, []allocator.AddressWant{want(ip1, holder(web, 81))}, "update", 0},
		{"sharer added", []*snapshot.Address{have(ip1, holder(web, 80))}, []allocator.AddressWant{want(ip1, holder(db, 81), holder(web, 80))}, "update", 0},
		{"taken from another", []*snapshot.Address{have(ip1, holder(web, 80))}, []allocator.AddressWant{want(ip1, holder(db, 81))}, "update", 1},
		{"not wanted", []*snapshot.Address{have(ip1, holder(web, 80))}, nil, "delete", 1},
		{"already going", []*snapshot.Address{{Addr: ip1, Deleting: true}}, nil, "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, ok := record.Writes(&allocator.Plan{Addresses: tc.want}, &snapshot.Snapshot{Addresses: tc.have})[ip1]
			op := ""
			switch {
			case ok && w.Want == nil:
				op = "delete"
			case ok && w.Have == nil:
				op = "create"
			case ok:
				op = "update"
			}
			if op != tc.op || len(w.Losers) != tc.lost {
				t.Errorf("write %q with %d losers, want %q with %d", op, len(w.Losers), tc.op, tc.lost)
			}
		})
	}
}

// TestRounds: who takes an address comes after who loses it, however long the
// chain, and a ring ends.
func TestRounds(t *testing.T) {
	outcome := func(name string, addr netip.Addr) allocator.Outcome {
		o := allocator.Outcome{Ref: snapshot.Ref{Namespace: "a", Name: name}, UID: "uid-" + name}
		if addr.IsValid() {
			o.Addrs = []netip.Addr{addr}
		}
		return o
	}
	loses := func(addr netip.Addr, name string) record.Write {
		return record.Write{Have: &snapshot.Address{Addr: addr}, Losers: []snapshot.Holder{holder(snapshot.Ref{Namespace: "a", Name: name})}}
	}
	ip3 := netip.MustParseAddr("192.0.2.3")
	for _, tc := range []struct {
		name     string
		outcomes []allocator.Outcome
		writes   []record.Write
		want     []string // the rounds
	}{
		{"nobody loses", []allocator.Outcome{outcome("x", ip1), outcome("y", ip2)}, nil, []string{"x y"}},
		{"a chain", []allocator.Outcome{outcome("x", ip1), outcome("y", ip2), outcome("z", ip3)},
			[]record.Write{loses(ip1, "y"), loses(ip2, "z")}, []string{"z", "y", "x"}},
		{"the loser gets none", []allocator.Outcome{outcome("x", ip1), outcome("y", netip.Addr{})}, []record.Write{loses(ip1, "y")}, []string{"y", "x"}},
		{"the loser is gone", []allocator.Outcome{outcome("x", ip1)}, []record.Write{loses(ip1, "y")}, []string{"x"}},
		{"a ring", []allocator.Outcome{outcome("x", ip1), outcome("y", ip2)}, []record.Write{loses(ip1, "y"), loses(ip2, "x")}, []string{"", "y", "x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			writes := map[netip.Addr]record.Write{}
			for _, w := range tc.writes {
				writes[w.Addr()] = w
			}
			var got []string
			for _, round := range record.Rounds(&allocator.Plan{Services: tc.outcomes}, writes) {
				var names []string
				for _, o := range round {
					names = append(names, o.Ref.Name)
				}
				got = append(got, strings.Join(names, " "))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("rounds %q, want %q", got, tc.want)
			}
		})
	}
}

// TestBlockers: at a node's own address, those who lose it are in the way of others only
// with their ports.
func TestBlockers(t *testing.T) {
	for _, tc := range []struct {
		node string
		port uint16 // of the new holder; the loser has 80
		want int
	}{{"", 81, 1}, {"a", 81, 0}, {"a", 80, 1}} {
		w := record.Write{
			Want:   &allocator.AddressWant{Addr: ip1, Node: tc.node, Holders: []snapshot.Holder{holder(db, tc.port)}},
			Have:   &snapshot.Address{Addr: ip1, Node: tc.node},
			Losers: []snapshot.Holder{holder(web, 80)},
		}
		if got := w.Blockers(); len(got) != tc.want {
			t.Errorf("node %q, port %d: %v", tc.node, tc.port, got)
		}
	}
}
