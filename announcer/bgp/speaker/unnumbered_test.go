package speaker_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/internal/test/routertest"
)

// linkLocal is the link-local address of ns on eth0, when it may be used.
func linkLocal(t *testing.T, ns nstest.Space) (addr netip.Addr) {
	t.Helper()
	within(t, "the link-local address", func() bool {
		out := ns.Run(t, "ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link", "-tentative")
		_, text, _ := strings.Cut(out, "inet6 ")
		text, _, found := strings.Cut(text, "/")
		if found {
			addr = netip.MustParseAddr(text)
		}
		return found
	})
	return addr
}

// frrInterface has FRR hold a session with the neighbor that announces itself on eth0.
func frrInterface(t *testing.T, ns nstest.Space) {
	t.Helper()
	routertest.StartFRR(t, ns, map[string]string{
		"bgpd": fmt.Sprintf(`router bgp %d
 bgp router-id %s
 no bgp ebgp-requires-policy
 neighbor eth0 interface remote-as external
 neighbor eth0 bfd
 address-family ipv4 unicast
  neighbor eth0 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor eth0 activate
 exit-address-family
exit
`, routerASN, router4),
		"bfdd": "bfd\nexit\n",
	})
}

// birdOnlink has BIRD hold a session with the node's link-local address.
func birdOnlink(t *testing.T, ns nstest.Space, node netip.Addr) {
	t.Helper()
	routertest.StartBIRD(t, ns, fmt.Sprintf(`router id %s;
protocol device {}
protocol kernel { ipv4 { export all; }; }
protocol kernel { ipv6 { export all; }; }
protocol radv { interface "eth0" { min ra interval 3; max ra interval 4; }; }
protocol bfd { interface "*" { interval 300 ms; multiplier 3; }; }
protocol bgp { local as %d; neighbor %s external; interface "eth0"; direct; passive on; bfd on;
 ipv4 { import all; export none; extended next hop on; }; ipv6 { import all; export none; }; }
`, router4, routerASN, node))
}

// TestUnnumbered: on a link without any address of ours, the node finds the router by
// its router advertisements and the router finds the node. The session, with BFD, is
// between link-local addresses and of whatever AS the router has. Both families' routes
// are in its kernel, with a next hop on the link.
func TestUnnumbered(t *testing.T) {
	for _, kind := range []string{"FRR", "BIRD"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			node, router := nstest.New(t, "node"), nstest.New(t, "router")
			nstest.Wire(t, node, router, "192.0.2.1/32", "192.0.2.2/32")
			own, theirs := linkLocal(t, node), linkLocal(t, router)
			if kind == "FRR" {
				frrInterface(t, router)
			} else {
				birdOnlink(t, router, own)
			}
			p := start(t, node)
			p.do(order{Do: "advertise"})
			want := snapshot.Router{Link: "eth0", Addr: theirs.WithZone("eth0")}
			within(t, "the node knows the router", func() bool {
				var got []snapshot.Router
				node.Do(t, func() (err error) { got, err = link.Routers(); return err })
				return len(got) == 1 && got[0].Link == want.Link && got[0].Addr == want.Addr
			})
			one := peer("router", want.Addr.String(), "198.19.0.1/32", "fd98:19::2/128")
			one.PeerASN = 0
			for i := range one.Paths {
				one.Paths[i].NextHop = netip.Addr{}
			}
			one.BFD = &bgp.BFD{MinTx: 300 * time.Millisecond, MinRx: 300 * time.Millisecond, Multiplier: 3, Links: []string{"eth0"}}
			p.sync(one)
			within(t, "established, and BFD is up", p.up)
			within(t, "both routes in the kernel", world{router: router}.both(t))
			got := routes(t, router)
			if strings.Count(got, "via "+own.String()) != 1 || strings.Count(got, "via inet6 "+own.String()) != 1 {
				t.Errorf("the router's kernel has\n%s", got)
			}
		})
	}
}
