package speaker_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/internal/test/routertest"
)

// The AS numbers of TestKinds, of four octets (RFC 6793), and addresses that the node
// has besides those that the kernel would dial from.
const (
	highNode, highRouter = 4200000001, 4200000002
	other4, other6       = "198.18.7.3", "fd98:7::1:3"
)

// TestKinds: sessions by each family, of AS numbers above 65535. One has packets that
// must come from the link itself (RFC 5082), from the address that it was given. The
// other is within an AS, and carries the local preference. Both have large communities
// (RFC 8092). An IPv4 prefix without an IPv4 next hop goes to the router that offers to
// take it (RFC 8950), which is the one of the session by IPv6 that is near.
func TestKinds(t *testing.T) {
	for name, own := range map[string]int{"near by IPv4, own AS by IPv6": 1, "near by IPv6, own AS by IPv4": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			near := 1 - own
			source := []string{other4, other6}[near]
			c := plain()
			c.ASN, c.Neighbors[near].ASN, c.Neighbors[own].ASN = highRouter, highNode, highRouter
			c.Neighbors[near].Hops, c.Neighbors[near].Addr, c.Neighbors[near].OwnHop = 1, source, true
			everyRouter(t, c, func(t *testing.T, w world) {
				w.node.Run(t, "ip", "addr", "add", source+[]string{"/24", "/64"}[near], "dev", "eth0")
				peers := two(func(p *bgp.Peer) {
					p.PeerASN, p.Paths[0].LargeCommunities = highRouter, [][3]uint32{{highNode, 4294967295, 7}}
				})
				peers[near].LocalASN, peers[near].TTLSecurity, peers[near].Source = highNode, 1, netip.MustParseAddr(source)
				peers[own].LocalASN, peers[own].Paths[0].LocalPref = highRouter, 200
				peers[1].Paths = append(peers[1].Paths, bgp.Path{Prefix: netip.MustParsePrefix(hopless), LocalPref: 200})
				p := start(t, w.node)
				p.sync(peers...)
				within(t, "both are established", p.established(2))
				within(t, "both routes in the kernel", w.both(t))
				w.knows(t, peers[own].Paths[0], "large", "localpref")
				w.knows(t, peers[near].Paths[0], "large", "AS path", "next hop "+source)
				if out := w.Peer(t, source); !strings.Contains(out, sessionFrom[w.kind]+source) {
					t.Errorf("the router has the session as\n%s", out)
				}
				w.takesHopless(t, p, near == 1)
			})
		})
	}
}

var sessionFrom = map[string]string{"FRR": "Foreign host: ", "BIRD": "Neighbor address: "}

// knows reports whether the router has a path with what is named.
func (w world) knows(t *testing.T, p bgp.Path, names ...string) {
	t.Helper()
	words := map[string]map[string]string{
		"FRR": {
			"large": "Large Community: 4200000001:4294967295:7", "localpref": "localpref 200", "AS path": "\n  4200000001\n",
			"next hop " + other4: other4 + " from " + other4, "next hop " + other6: other6 + " from " + other6,
		},
		"BIRD": {
			"large": "BGP.large_community: (4200000001, 4294967295, 7)", "localpref": "BGP.local_pref: 200", "AS path": "BGP.as_path: 4200000001\n",
			"next hop " + other4: "BGP.next_hop: " + other4, "next hop " + other6: "BGP.next_hop: " + other6,
		},
	}[w.kind]
	out := w.Path(t, p.Prefix.String())
	for _, name := range names {
		if words[name] == "" || !strings.Contains(out, words[name]) {
			t.Errorf("without %s, the router has\n%s", name, out)
		}
	}
}

// hopless is a prefix of the session by IPv6 that no IPv4 next hop is known for.
const hopless = "198.19.0.3/32"

// takesHopless reports whether the router has it by IPv6, or the session says why not:
// then it has the other path all the same.
func (w world) takesHopless(t *testing.T, p *process, offered bool) {
	t.Helper()
	if offered {
		within(t, "IPv4 by an IPv6 next hop in the kernel", w.has(t, "198.19.0.3"))
		w.knows(t, bgp.Path{Prefix: netip.MustParsePrefix(hopless)}, "AS path", "next hop "+other6)
		if got := routes(t, w.router); !strings.Contains(got, "via inet6 "+other6) {
			t.Errorf("the router's kernel has\n%s", got)
		}
		return
	}
	within(t, "what the router does not offer is told", func() bool {
		st := p.status()[1]
		return st.Established && st.Prefixes == 1 && strings.Contains(st.LastError, "RFC 8950")
	})
	if got := routes(t, w.router); strings.Contains(got, "198.19.0.3") {
		t.Errorf("the router's kernel has\n%s", got)
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
