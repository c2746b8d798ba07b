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

// frrConf is a router that takes what the node announces, by IPv4 and IPv6.
func frrConf(more ...string) string {
	return fmt.Sprintf(`router bgp %d
 bgp router-id %s
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor %s remote-as %d
 neighbor %s remote-as %d
 neighbor %s passive
 neighbor %s passive
 %s
 address-family ipv4 unicast
  neighbor %s activate
  neighbor %s activate
 exit-address-family
 address-family ipv6 unicast
  neighbor %s activate
  neighbor %s activate
 exit-address-family
exit
`, routerASN, router4, node4, nodeASN, node6, nodeASN, node4, node6, strings.Join(more, "\n "), node4, node6, node4, node6)
}

// birdConf is the same for BIRD.
func birdConf(more string) string {
	return fmt.Sprintf(`router id %s;
protocol device {}
protocol kernel { ipv4 { export all; }; }
protocol kernel { ipv6 { export all; }; }
template bgp node {
 local as %d;
 ipv4 { import all; export none; extended next hop on; };
 ipv6 { import all; export none; };
 passive on;
 %s
}
protocol bgp n4 from node { local %s as %d; neighbor %s as %d; }
protocol bgp n6 from node { local %s as %d; neighbor %s as %d; }
`, router4, routerASN, more, router4, routerASN, node4, nodeASN, router6, routerASN, node6, nodeASN)
}

// kinds are the routers that every story is told to.
var kinds = map[string]func(t *testing.T, ns nstest.Space){
	"FRR": func(t *testing.T, ns nstest.Space) {
		routertest.StartFRR(t, ns, map[string]string{"bgpd": frrConf()})
	},
	"BIRD": func(t *testing.T, ns nstest.Space) { routertest.StartBIRD(t, ns, birdConf("")) },
}

// TestRoutes: a session by each family carries both, the paths come into the
// router's kernel, and go one by one.
func TestRoutes(t *testing.T) {
	for name, router := range kinds {
		t.Run(name, func(t *testing.T) {
			nodeSpace, routerSpace := wired(t)
			router(t, routerSpace)
			p := start(t, nodeSpace)
			p.sync(peer("four", router4, "198.19.0.1/32", "fd98:19::1/128"), peer("six", router6, "198.19.0.2/32", "fd98:19::2/128"))
			took := within(t, "both sessions are established", p.established(2))
			if took > 30*time.Second {
				t.Errorf("the sessions took %s", took)
			}
			within(t, "four routes in the kernel", func() bool {
				got := routes(t, routerSpace)
				return strings.Count(got, "via "+node4) == 2 && strings.Count(got, "via "+node6) == 2
			})
			within(t, "what was sent is counted", func() bool {
				st := p.status()
				return st[0].Updates >= 2 && st[1].Updates >= 2 && st[0].Prefixes == 2 && st[1].Prefixes == 2
			})
			before := p.status()
			p.sync(peer("four", router4, "198.19.0.1/32"), peer("six", router6, "198.19.0.2/32", "fd98:19::2/128"))
			within(t, "one route is withdrawn", func() bool { return !strings.Contains(routes(t, routerSpace), "fd98:19::1") })
			within(t, "the UPDATE is counted", func() bool { return p.status()[0].Updates > before[0].Updates })
			after := p.status()
			if sent := after[0].Updates - before[0].Updates; sent != 1 || after[1].Updates != before[1].Updates {
				t.Errorf("withdrawing one path took %d UPDATEs, and %d to the other peer", sent, after[1].Updates-before[1].Updates)
			}
			p.sync(peer("six", router6, "198.19.0.2/32", "fd98:19::2/128"))
			within(t, "the closed session's routes are gone", func() bool { return !strings.Contains(routes(t, routerSpace), "198.19.0.1") })
			if st := p.status(); len(st) != 1 || !st[0].Established || st[0].Flaps != 0 {
				t.Errorf("the other session did not stay: %+v", st)
			}
		})
	}
}

// TestPassword: a session with TCP MD5; a changed password resets that session
// once, and one that is wrong keeps it down with the reason.
func TestPassword(t *testing.T) {
	nodeSpace, routerSpace := wired(t)
	frr := routertest.StartFRR(t, routerSpace, map[string]string{"bgpd": frrConf("neighbor " + node4 + " password first")})
	p := start(t, nodeSpace)
	secret := func(password string) []bgp.Peer {
		four := peer("four", router4, "198.19.0.1/32")
		four.Password = password
		return []bgp.Peer{four, peer("six", router6, "fd98:19::2/128")}
	}
	p.sync(secret("first")...)
	within(t, "established with the password", p.established(2))
	frr.Configure(t, "bgpd", "router bgp 64501", "neighbor "+node4+" password second")
	p.sync(secret("second")...)
	within(t, "established with the new password", p.established(2))
	if st := p.status(); st[1].Flaps != 0 {
		t.Errorf("the other session flapped: %+v", st[1])
	}
	p.sync(secret("wrong")...)
	within(t, "down with a reason", func() bool {
		st := p.status()[0]
		return !st.Established && strings.Contains(st.LastError, "connect")
	})
	if st := p.status(); !st[1].Established || st[1].Flaps != 0 {
		t.Errorf("the other session did not stay: %+v", st[1])
	}
}

// TestRetreat: on the way out the paths get GRACEFUL_SHUTDOWN, are withdrawn,
// and the session is closed with a Cease.
func TestRetreat(t *testing.T) {
	nodeSpace, routerSpace := wired(t)
	frr := routertest.StartFRR(t, routerSpace, map[string]string{"bgpd": frrConf()})
	p := start(t, nodeSpace)
	p.sync(peer("four", router4, "198.19.0.1/32"))
	within(t, "the route is there", func() bool { return strings.Contains(routes(t, routerSpace), "198.19.0.1") })
	retreating := peer("four", router4, "198.19.0.1/32")
	retreating.Paths[0].Communities = []uint32{bgp.GracefulShutdown}
	p.sync(retreating)
	within(t, "the route has the community", func() bool {
		return strings.Contains(frr.Show(t, "bgpd", "show bgp ipv4 unicast 198.19.0.1/32"), "graceful-shutdown")
	})
	p.do(order{Do: "close"})
	within(t, "the route is gone", func() bool { return !strings.Contains(routes(t, routerSpace), "198.19.0.1") })
	if out := frr.Show(t, "bgpd", "show bgp neighbors "+node4); !strings.Contains(out, "Cease") {
		t.Errorf("the router was not told:\n%s", out)
	}
}
