package announcer

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// TestWatchingTheLost: a node that is lost on a link, and whose agent speaks by another one, is
// owner of nothing there. It stays watched, or it would not be lost any more.
func TestWatchingTheLost(t *testing.T) {
	state := func(node string, last byte) snapshot.Electable {
		return snapshot.Electable{Node: node, InSync: true, Links: []snapshot.Link{{
			Name: "eth0", MAC: "02:00:00:00:00:0" + string('0'+last), Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, last}), 24)},
		}}}
	}
	in := Input{Node: "a", Self: state("a", 1), Others: map[string]snapshot.Electable{"b": state("b", 2)}, Snapshot: &snapshot.Snapshot{Nodes: []*snapshot.Node{{Name: "a"}, {Name: "b"}}}}
	view := View{Node: "a", Members: []Member{{Node: "a"}, {Node: "b"}}}
	for name, tt := range map[string]struct {
		reach Reach
		want  int
	}{
		"it answers": {Reach{}, 0},
		"it is lost": {Reach{Lost: map[string][]string{"b": {"eth0"}}}, 1},
	} {
		if got := NewWatching(in, view, nil, tt.reach).Ask; len(got) != tt.want {
			t.Errorf("%s: it is asked on %d links, want %d", name, len(got), tt.want)
		}
	}
}

// TestListenOn: a node that waits for an address on a link listens there, also where it knows
// of nobody: it may be the one that does not hear.
func TestListenOn(t *testing.T) {
	v4, v6, other := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10"), netip.MustParseAddr("192.0.2.11")
	set := Set{
		Claims:   []Claim{{v4, "eth1"}, {other, "eth2"}, {v6, "eth0"}, {v6, "eth1"}},
		Orphaned: map[netip.Addr]int{v4: 0, v6: 2},
	}
	own := []snapshot.Link{{Name: "eth0"}, {Name: "eth1"}, {Name: "eth2"}}
	for _, tt := range []struct {
		name           string
		set            Set
		shared         []snapshot.Link
		links, listens []string
	}{
		{"it waits for nothing", Set{Claims: set.Claims}, own[2:], []string{"eth2"}, nil},
		{"it waits where others are, and elsewhere", set, own[1:2], []string{"eth1", "eth0"}, []string{"eth0", "eth1"}},
		{"it waits and knows nobody", set, nil, []string{"eth0", "eth1"}, []string{"eth0", "eth1"}},
	} {
		w := Watching{Links: slices.Clone(tt.shared)}
		w.ListenOn(tt.set.AwaitedOn(), own)
		var links []string
		for _, l := range w.Links {
			links = append(links, l.Name)
		}
		if !slices.Equal(links, tt.links) || !slices.Equal(w.Listen, tt.listens) {
			t.Errorf("%s: it has sockets on %v and listens on %v, want %v and %v", tt.name, links, w.Listen, tt.links, tt.listens)
		}
	}
}
