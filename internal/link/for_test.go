package link

import (
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// A link without an address of its own may announce if an Announcement names it exactly, and
// not for a pattern.
func TestLinkWithoutAddressIsNamed(t *testing.T) {
	node, peer := nstest.New(t, "node"), nstest.New(t, "peer")
	nstest.Wire(t, node, peer, "198.18.0.1/24", "198.18.0.2/24")
	node.Run(t, "ip", "link", "add", "wan0", "type", "veth", "peer", "name", "wan1")
	node.Run(t, "ip", "link", "set", "wan0", "up")
	node.Run(t, "ip", "link", "set", "wan1", "up")
	nstest.Eventually(t, "both links have a carrier", func() bool { return len(read(t, node).Bare) == 2 })
	st := read(t, node)
	for _, tt := range []struct {
		names []string
		want  int
	}{{nil, 1}, {[]string{"wan*"}, 1}, {[]string{"eth0", "wan0"}, 2}} {
		if got := st.For([]*snapshot.Announcement{{Interfaces: tt.names}}); len(got) != tt.want || got[0].Name != "eth0" {
			t.Errorf("named %v: %v", tt.names, got)
		}
	}
}
