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

// TestMeasure prints how fast routes come and go, with BIRD.
func TestMeasure(t *testing.T) {
	if !*measure {
		return // make bench-bgp
	}
	nodeSpace, routerSpace := wired(t)
	routertest.StartBIRD(t, routerSpace, birdConf("bfd on;")+"\nprotocol bfd { interface \"*\" { interval 50 ms; multiplier 3; }; }\n")
	p := start(t, nodeSpace)
	var prefixes []string
	for i := range 1000 {
		prefixes = append(prefixes, fmt.Sprintf("198.19.%d.%d/32", i/250, i%250))
	}
	count := func() int { return strings.Count(routes(t, routerSpace), "via "+node4) }
	all := peer("four", router4, prefixes...)
	all.BFD = &bgp.BFD{MinTx: 50 * time.Millisecond, MinRx: 50 * time.Millisecond, Multiplier: 3}
	began := time.Now()
	p.sync(all)
	within(t, "routes", func() bool { return count() == len(prefixes) })
	cold := time.Since(began)
	within(t, "counted", func() bool { return p.status()[0].Updates > 0 && p.status()[0].BFD.State.String() == "Up" })
	t.Logf("bench-bgp: %d VIPs from a cold start: %s, %d UPDATEs", len(prefixes), cold.Round(time.Millisecond), p.status()[0].Updates)
	fewer := all
	fewer.Paths = all.Paths[1:]
	began = time.Now()
	p.sync(fewer)
	within(t, "one route less", func() bool { return count() == len(prefixes)-1 })
	t.Logf("bench-bgp: one VIP withdrawn: %s", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	nodeSpace.Run(t, "nft", "add table inet dead; add chain inet dead out { type filter hook output priority 0; policy drop; }")
	within(t, "all routes gone", func() bool { return count() == 0 })
	t.Logf("bench-bgp: node silent, the link up, BFD 50 ms x 3: %s until the last of %d routes is gone", time.Since(began).Round(time.Millisecond), len(prefixes)-1)
}
