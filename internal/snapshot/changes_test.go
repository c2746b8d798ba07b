package snapshot

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestDiffAgainstMaps compares Diff with the obvious comparison of two maps.
func TestDiffAgainstMaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := drawn(t, &Snapshot{})
		now := drawn(t, old)
		got := Diff(old, now)
		if want := changed(services(old), services(now), Ref.Compare); !slices.Equal(got.Services, want) {
			t.Errorf("Services: got %v, want %v", got.Services, want)
		}
		if want := changed(addresses(old), addresses(now), netip.Addr.Compare); !slices.Equal(got.Addresses, want) {
			t.Errorf("Addresses: got %v, want %v", got.Addresses, want)
		}
		if got.Nodes != !slices.Equal(old.Nodes, now.Nodes) {
			t.Errorf("Nodes: got %t", got.Nodes)
		}
		if again := got.From(old, now); !reflect.DeepEqual(again, got) {
			t.Errorf("From its own Snapshot: got %+v, want %+v", again, got)
		}
		if other := got.From(&Snapshot{}, now); len(other.Services) != len(now.Services) {
			t.Errorf("From an empty Snapshot: got %v", other.Services)
		}
	})
}

// drawn is a Snapshot that shares some values with old.
func drawn(t *rapid.T, old *Snapshot) *Snapshot {
	if rapid.IntRange(0, 4).Draw(t, "same") == 0 {
		same := *old
		return &same
	}
	s := &Snapshot{}
	for i := range 6 {
		ref := Ref{"ns", fmt.Sprint(i)}
		switch had := old.Service(ref); rapid.IntRange(0, 2).Draw(t, "service") {
		case 0:
			s.Services = append(s.Services, &Service{Ref: ref})
		case 1:
			if had != nil {
				s.Services = append(s.Services, had)
			}
		}
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		at := slices.IndexFunc(old.Addresses, func(a *Address) bool { return a.Addr == addr })
		switch rapid.IntRange(0, 2).Draw(t, "address") {
		case 0:
			s.Addresses = append(s.Addresses, &Address{Addr: addr})
		case 1:
			if at >= 0 {
				s.Addresses = append(s.Addresses, old.Addresses[at])
			}
		}
	}
	s.Nodes = old.Nodes
	if rapid.Bool().Draw(t, "nodes") {
		s.Nodes = append(slices.Clone(s.Nodes), &Node{Name: fmt.Sprint("n", len(s.Nodes))})
	}
	return s
}

func services(s *Snapshot) map[Ref]*Service {
	out := map[Ref]*Service{}
	for _, v := range s.Services {
		out[v.Ref] = v
	}
	return out
}

func addresses(s *Snapshot) map[netip.Addr]*Address {
	out := map[netip.Addr]*Address{}
	for _, v := range s.Addresses {
		out[v.Addr] = v
	}
	return out
}

func changed[K comparable, V comparable](old, now map[K]V, compare func(a, b K) int) (out []K) {
	all := maps.Clone(old)
	maps.Copy(all, now)
	for k := range all {
		if old[k] != now[k] {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, compare)
	return out
}
