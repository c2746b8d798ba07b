package agent

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/internal/test/routertest"
)

// keeps returns the address of a family that the agent of a node has leased by its own
// words, "" while it has none or left it to another.
func (p *peers) keeps(t *testing.T, node, family string) (addr string) {
	t.Helper()
	text, err := os.ReadFile(p.logs + "/" + node)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		switch {
		case !strings.Contains(line, " family="+family+" "):
		case strings.Contains(line, "left a DHCP lease"):
			addr = ""
		case strings.Contains(line, `state="held `):
			_, rest, _ := strings.Cut(line, `state="held `)
			addr, _, _ = strings.Cut(rest, `"`)
		}
	}
	return addr
}

// TestLeasesOutliveTheirNode: one of three agents leases each address from a real DHCP
// server. When the node that keeps one has no power any more, another one has the same
// address.
func TestLeasesOutliveTheirNode(t *testing.T) {
	t.Parallel()
	var server *routertest.Leaser
	p := newPeers(t, peerSetup{
		more: "pool leased dhcp=eth0 families=4,6 leases=default/lessee/4,default/lessee/6",
		before: func(t *testing.T, p *peers) {
			space := nstest.New(t, "server")
			p.wire(t, space, "server", 99)
			server = routertest.StartDnsmasq(t, space, "198.18.0.150,198.18.0.159,1h", "fd98:18::150,fd98:18::159,64,1h")
		},
	})
	for _, family := range []string{"IPv4", "IPv6"} {
		keeper, addr := "", ""
		one := func() bool {
			keeper, addr = "", ""
			for _, name := range p.names {
				if a := p.keeps(t, name, family); a != "" && p.cmds[name].ProcessState == nil {
					if keeper != "" {
						return false
					}
					keeper, addr = name, a
				}
			}
			return keeper != ""
		}
		nstest.Eventually(t, "one node keeps the lease of "+family, one)
		if family == "IPv6" {
			break // two of three nodes would be gone
		}
		first, before := keeper, addr
		p.spaces[first].Run(t, "ip", "link", "set", "eth0", "down")
		p.end(t, first, syscall.SIGKILL)
		nstest.Eventually(t, "another node keeps it", func() bool { return one() && keeper != first })
		if addr != before {
			t.Errorf("%s has leased %s, before it was %s at %s", keeper, addr, before, first)
		}
	}
	if given := server.Leases(t); len(given) != 2 {
		t.Errorf("the server has leased %v", given)
	}
}
