package announcer

import (
	"net/netip"
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
