package speaker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/nstest"
	"github.com/fairlead/fairlead/internal/routertest"
)

// kindsConf is a router with GTSM by IPv4, and of the node's own AS by IPv6.
var kindsConf = fmt.Sprintf(`router bgp %d
 bgp router-id %s
 no bgp ebgp-requires-policy
 neighbor %s remote-as %d
 neighbor %s ttl-security hops 1
 neighbor %s passive
 neighbor %s remote-as %d
 neighbor %s passive
 address-family ipv6 unicast
  neighbor %s activate
 exit-address-family
exit
`, routerASN, router4, node4, nodeASN, node4, node4, node6, routerASN, node6, node6)

// TestKinds: a session whose packets must come from the link itself (RFC 5082),
// and one within an AS, which carries the local preference.
func TestKinds(t *testing.T) {
	nodeSpace, routerSpace := wired(t)
	frr := routertest.StartFRR(t, routerSpace, map[string]string{"bgpd": kindsConf})
	near, own := peer("near", router4, "198.19.0.1/32"), peer("own", router6, "fd98:19::2/128")
	near.TTLSecurity, own.LocalASN = 1, routerASN
	own.Paths[0].LocalPref = 200
	p := start(t, nodeSpace)
	p.sync(near, own)
	within(t, "both are established", p.established(2))
	within(t, "both routes in the kernel", func() bool {
		got := routes(t, routerSpace)
		return strings.Contains(got, "198.19.0.1") && strings.Contains(got, "fd98:19::2")
	})
	if out := frr.Show(t, "bgpd", "show bgp ipv6 unicast fd98:19::2/128"); !strings.Contains(out, "localpref 200") || !strings.Contains(out, "internal") {
		t.Errorf("the router has the route of its own AS as\n%s", out)
	}
}

// The addresses of a router behind the one on the wire.
const far4, gateway4 = "198.18.8.2", "198.18.8.1"

// behind makes a namespace behind router that the node reaches through it.
func behind(t *testing.T, node, router nstest.Space) nstest.Space {
	t.Helper()
	far := nstest.New(t, "far")
	router.Run(t, "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth0", "netns", far.Name)
	router.Run(t, "ip", "addr", "add", gateway4+"/24", "dev", "eth1")
	router.Run(t, "ip", "link", "set", "eth1", "up")
	router.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	far.Run(t, "ip", "addr", "add", far4+"/24", "dev", "eth0")
	far.Run(t, "ip", "link", "set", "eth0", "up")
	far.Run(t, "ip", "route", "add", "198.18.7.0/24", "via", gateway4)
	node.Run(t, "ip", "route", "add", "198.18.8.0/24", "via", router4)
	return far
}

// TestMultihop: a session, and BFD, with a router behind another one; it does
// not count as near.
func TestMultihop(t *testing.T) {
	nodeSpace, routerSpace := wired(t)
	farSpace := behind(t, nodeSpace, routerSpace)
	routertest.StartFRR(t, farSpace, map[string]string{"bfdd": "", "bgpd": fmt.Sprintf(`router bgp %d
 bgp router-id %s
 no bgp ebgp-requires-policy
 neighbor %s remote-as %d
 neighbor %s ebgp-multihop 3
 neighbor %s passive
 neighbor %s bfd
exit
`, routerASN, far4, node4, nodeASN, node4, node4, node4)})
	far := peer("far", far4, "198.19.0.1/32")
	far.Multihop = 3
	far.BFD = &bgp.BFD{MinTx: 300 * time.Millisecond, MinRx: 300 * time.Millisecond, Multiplier: 3, Multihop: true}
	p := start(t, nodeSpace)
	p.sync(far)
	within(t, "established, and BFD is up", func() bool {
		st := p.status()[0]
		return st.Established && st.BFD != nil && st.BFD.State.String() == "Up"
	})
	within(t, "the route is in the kernel", func() bool { return strings.Contains(routes(t, farSpace), "198.19.0.1") })
	near := peer("far", far4, "198.19.0.1/32")
	near.TTLSecurity = 1
	p.sync(near)
	within(t, "too far away to be near", func() bool {
		st := p.status()[0]
		return !st.Established && strings.Contains(st.LastError, "connect")
	})
}
