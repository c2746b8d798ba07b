package speaker_test

import (
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/nstest"
	"github.com/fairlead/fairlead/internal/routertest"
)

// TestKinds: a session whose packets must come from the link itself (RFC 5082),
// and one within an AS, which carries the local preference, each by both families.
func TestKinds(t *testing.T) {
	prefers := map[string]string{"FRR": "localpref 200", "BIRD": "BGP.local_pref: 200"}
	for name, own := range map[string]int{"near by IPv4, own AS by IPv6": 1, "near by IPv6, own AS by IPv4": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			near := 1 - own
			c := plain()
			c.Neighbors[near].Hops, c.Neighbors[own].ASN = 1, routerASN
			everyRouter(t, c, func(t *testing.T, w world) {
				peers := two(func(*bgp.Peer) {})
				peers[near].TTLSecurity, peers[own].LocalASN = 1, routerASN
				peers[own].Paths[0].LocalPref = 200
				p := start(t, w.node)
				p.sync(peers...)
				within(t, "both are established", p.established(2))
				within(t, "both routes in the kernel", w.both(t))
				if out := w.Path(t, peers[own].Paths[0].Prefix.String()); !strings.Contains(out, prefers[w.kind]) {
					t.Errorf("the router has the route of its own AS as\n%s", out)
				}
			})
		})
	}
}

// The addresses of a router behind the one on the wire.
const (
	far4, gateway4 = "198.18.8.2", "198.18.8.1"
	far6, gateway6 = "fd98:8::2", "fd98:8::1"
)

// behind makes a namespace behind router that the node reaches through it.
func behind(t *testing.T, node, router nstest.Space) nstest.Space {
	t.Helper()
	far := nstest.New(t, "far")
	router.Run(t, "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth0", "netns", far.Name)
	router.Run(t, "ip", "link", "set", "eth1", "up")
	router.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	far.Run(t, "ip", "link", "set", "eth0", "up")
	for _, a := range []struct{ far, gateway, mask, near, hop, net string }{
		{far4, gateway4, "/24", "198.18.7.0/24", router4, "198.18.8.0/24"}, {far6, gateway6, "/64", "fd98:7::/64", router6, "fd98:8::/64"},
	} {
		router.Run(t, "ip", "addr", "add", a.gateway+a.mask, "dev", "eth1", "nodad")
		far.Run(t, "ip", "addr", "add", a.far+a.mask, "dev", "eth0", "nodad")
		far.Run(t, "ip", "route", "add", a.near, "via", a.gateway)
		node.Run(t, "ip", "route", "add", a.net, "via", a.hop)
	}
	return far
}

// TestMultihop: sessions, and BFD, with a router behind another one; it does not
// count as near.
func TestMultihop(t *testing.T) {
	for name, launch := range routertest.Routers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world{kind: name}
			var middle nstest.Space
			w.node, middle = wired(t)
			w.router = behind(t, w.node, middle)
			launch(t, w.router, routertest.Config{ASN: routerASN, ID: far4, BFD: 300, Neighbors: []routertest.Neighbor{
				{Addr: node4, Local: far4, ASN: nodeASN, Multihop: true}, {Addr: node6, Local: far6, ASN: nodeASN, Multihop: true},
			}})
			peers := []bgp.Peer{peer("four", far4, "198.19.0.1/32"), peer("six", far6, "fd98:19::2/128")}
			for i := range peers {
				peers[i].Multihop = 3
				peers[i].BFD = &bgp.BFD{MinTx: 300 * time.Millisecond, MinRx: 300 * time.Millisecond, Multiplier: 3, Multihop: true}
			}
			p := start(t, w.node)
			p.sync(peers...)
			within(t, "established, and BFD is up", p.up)
			within(t, "the routes are in the kernel", w.both(t))
			for i := range peers {
				peers[i].Multihop, peers[i].BFD, peers[i].TTLSecurity = 0, nil, 1
			}
			p.sync(peers...)
			within(t, "too far away to be near", func() bool {
				for _, st := range p.status() {
					if st.Established || !strings.Contains(st.LastError, "connect") {
						return false
					}
				}
				return true
			})
		})
	}
}
