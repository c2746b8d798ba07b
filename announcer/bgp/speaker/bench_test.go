package speaker_test

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/routertest"
)

var measure = flag.Bool("measure", false, "measure convergence, withdrawal and failover")

// vips is how many addresses TestMeasure announces.
const vips = 1000

// TestMeasure prints how fast sessions and routes come and go, with each router by
// each family, and fails if that is too slow.
func TestMeasure(t *testing.T) {
	if !*measure {
		return // make bench-bgp
	}
	for name, launch := range routertest.Routers {
		for family, format := range map[string]string{"IPv4": "198.19.%d.%d/32", "IPv6": "fd98:19::%x:%x/128"} {
			t.Run(name+", "+family, func(t *testing.T) {
				w := world{kind: name}
				w.node, w.router = wired(t)
				c := plain()
				c.BFD = 50
				w.Router = launch(t, w.router, c)
				w.measure(t, family, format)
			})
		}
	}
}

func (w world) measure(t *testing.T, family, format string) {
	say := func(format string, args ...any) {
		t.Helper()
		t.Logf("bench-bgp: %s, %s: %s", w.kind, family, fmt.Sprintf(format, args...))
	}
	held := func(what string, took, limit time.Duration) {
		if took > limit {
			t.Errorf("%s took %s, more than %s", what, took, limit)
		}
	}
	ends := map[string][2]string{"IPv4": {router4, node4}, "IPv6": {router6, node6}}[family]
	count := func() int { return strings.Count(routes(t, w.router), "via "+ends[1]) }
	var prefixes []string
	for i := range vips {
		prefixes = append(prefixes, fmt.Sprintf(format, i/250, i%250))
	}
	all := peer("router", ends[0], prefixes...)
	all.BFD = &bgp.BFD{MinTx: 50 * time.Millisecond, MinRx: 50 * time.Millisecond, Multiplier: 3}
	p := start(t, w.node)
	began := time.Now()
	p.sync(all)
	within(t, "established", p.established(1))
	session := time.Since(began)
	within(t, "routes", func() bool { return count() == vips })
	cold := time.Since(began)
	within(t, "counted", func() bool { return p.up() && p.status()[0].Updates > 0 })
	say("session up %d ms after a cold start; %d VIPs in the router's kernel after %d ms, %d UPDATEs", session.Milliseconds(), vips, cold.Milliseconds(), p.status()[0].Updates)
	held("the session", session, 3*time.Second)
	held("1,000 VIPs", cold, 3*time.Second)
	before := p.status()[0].Updates
	all.Paths = all.Paths[1:]
	began = time.Now()
	p.sync(all)
	within(t, "one route less", func() bool { return count() == vips-1 })
	took := time.Since(began)
	within(t, "counted", func() bool { return p.status()[0].Updates > before })
	say("one of %d VIPs withdrawn after %d ms, %d UPDATE", vips, took.Milliseconds(), p.status()[0].Updates-before)
	within(t, "still up", p.up)
	began = time.Now()
	w.node.Run(t, "nft", "add table inet dead; add chain inet dead out { type filter hook output priority 0; policy drop; }")
	within(t, "the first route is gone", func() bool { return count() < vips-1 })
	first := time.Since(began)
	within(t, "all routes gone", func() bool { return count() == 0 })
	say("node silent, the link up, BFD 50 ms x 3: first route gone after %d ms, the last of %d after %d ms", first.Milliseconds(), vips-1, time.Since(began).Milliseconds())
	held("the first route", first, 300*time.Millisecond)
}
