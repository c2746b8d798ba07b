package speaker_test

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/test/routertest"
)

var measure = flag.Bool("measure", false, "measure convergence, withdrawal and failover")

// vips is how many addresses TestMeasure announces.
const vips = 5000

// TestMeasure prints how fast sessions and routes come and go, with each router by
// each family, and fails if that is too slow.
func TestMeasure(t *testing.T) {
	if !*measure {
		return // make bench WHAT=bgp
	}
	for name := range routertest.Routers {
		for family, format := range map[string]string{"IPv4": "198.19.%d.%d/32", "IPv6": "fd98:19::%x:%x/128"} {
			t.Run(name+", "+family, func(t *testing.T) {
				m := measured{kind: name, family: family}
				for i := range vips {
					m.prefixes = append(m.prefixes, fmt.Sprintf(format, i/250, i%250))
				}
				m.announce(t)
				m.lose(t)
			})
		}
		t.Run(name+", restart", func(t *testing.T) { measureRestart(t, name) })
	}
}

// measureRestart stops the agent for 2 s, with graceful restart and BFD at its default.
func measureRestart(t *testing.T, kind string) {
	w := world{kind: kind}
	w.node, w.router = wired(t)
	c := plain()
	c.Graceful, c.BFD = true, 300
	w.Router = routertest.Routers[kind](t, w.router, c)
	peers := watched(300, func(p *bgp.Peer) { p.RestartTime = time.Minute })
	p := start(t, w.node)
	p.sync(peers...)
	within(t, "all has been up for a while", func() bool { return p.up() && p.steady(3*time.Second) })
	within(t, "the routes are there", w.both(t))
	stopped, back, later := w.restart(t, p, peers, func(p *process) func() bool { return p.up })
	t.Logf("bench-bgp: %s: agent stopped for 2 s, graceful restart and BFD 300 ms x 3: routes away for %d ms", kind, (stopped + back + later).Milliseconds())
	held(t, "what routes were away", stopped+back+later, 0)
}

// measured is one router by one family.
type measured struct {
	kind, family string
	prefixes     []string
}

// begin makes a router, and a node that announces all prefixes to it. The router's
// kernel is looked at with one command, which leaves it its cores.
func (m measured) begin(t *testing.T, bfd int) (w world, p *process, router bgp.Peer, count func() int) {
	t.Helper()
	w.node, w.router = wired(t)
	c := plain()
	c.BFD, c.Graceful = bfd, bfd > 0
	routertest.Routers[m.kind](t, w.router, c)
	ends := map[string][2]string{"IPv4": {router4, node4}, "IPv6": {router6, node6}}[m.family]
	count = func() int {
		return strings.Count(w.router.Run(t, "ip", "-"+m.family[len("IPv"):], "route", "show", "via", ends[1]), "\n")
	}
	return w, start(t, w.node), peer("router", ends[0], m.prefixes...), count
}

func (m measured) say(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Logf("bench-bgp: %s, %s: %s", m.kind, m.family, fmt.Sprintf(format, args...))
}

func held(t *testing.T, what string, took, limit time.Duration) {
	t.Helper()
	if took > limit {
		t.Errorf("%s took %s, more than %s", what, took, limit)
	}
}

// announce has all prefixes announced by a session that begins, and one withdrawn.
func (m measured) announce(t *testing.T) {
	_, p, router, count := m.begin(t, 0)
	began := time.Now()
	p.sync(router)
	within(t, "established", p.established(1))
	session := time.Since(began)
	within(t, "routes", func() bool { return count() == vips })
	cold := time.Since(began)
	within(t, "counted", func() bool { return p.status()[0].Updates > 0 })
	before := p.status()[0].Updates
	m.say(t, "session up %d ms after a cold start, %d VIPs in the router's kernel after %d ms, by %d UPDATEs", session.Milliseconds(), vips, cold.Milliseconds(), before)
	held(t, "the session", session, 3*time.Second)
	held(t, "5,000 VIPs", cold, 5*time.Second)
	router.Paths = router.Paths[1:]
	began = time.Now()
	p.sync(router)
	within(t, "one route less", func() bool { return count() == vips-1 })
	took := time.Since(began)
	within(t, "counted", func() bool { return p.status()[0].Updates > before })
	m.say(t, "one of %d VIPs withdrawn after %d ms, by %d UPDATE", vips, took.Milliseconds(), p.status()[0].Updates-before)
}

// lose has the node fall silent.
func (m measured) lose(t *testing.T) {
	const interval = 50
	w, p, router, count := m.begin(t, interval)
	router.RestartTime = time.Minute
	router.BFD = &bgp.BFD{MinTx: interval * time.Millisecond, MinRx: interval * time.Millisecond, Multiplier: 3}
	p.sync(router)
	within(t, "BFD is up, with all routes", func() bool { return count() == vips && p.up() })
	began := time.Now()
	w.node.Run(t, "nft", "add table inet dead; add chain inet dead out { type filter hook output priority 0; policy drop; }")
	within(t, "the first route is gone", func() bool { return count() < vips })
	first := time.Since(began)
	within(t, "all routes gone", func() bool { return count() == 0 })
	m.say(t, "node silent, the link up, graceful restart and BFD 50 ms x 3: first route gone after %d ms, the last of %d after %d ms", first.Milliseconds(), vips, time.Since(began).Milliseconds())
	held(t, "the first route", first, 500*time.Millisecond) // BFD takes 150 ms, and a look at 5,000 routes 50 ms and more
}
