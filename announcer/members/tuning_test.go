package members

import (
	"flag"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
)

var (
	many = flag.Int("members", 0, "simulate this many members in TestMany, 200 say; 0: not at all")
	slow = flag.Int("slow", 1, "let the members of TestMany take this many times longer for everything: all of them share this machine's cores")
)

// slowed is t as it would be if a second took n.
func slowed(t tuning, n int) tuning {
	for _, d := range []*time.Duration{&t.interval, &t.timeout, &t.gossip, &t.pushPull, &t.seeds, &t.update} {
		*d *= time.Duration(n)
	}
	return t
}

// burn keeps all cores busy with twice as many goroutines until it is stopped.
func burn() (stop func()) {
	end := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for x := 1; ; x = x*3 + 1 {
				select {
				case <-end:
					return
				default:
				}
			}
		})
	}
	return func() { close(end); wg.Wait() }
}

// TestNoFalseAlarm: all cores are busy for some seconds. Nobody is called gone;
// how often an agent was doubted is printed.
func TestNoFalseAlarm(t *testing.T) {
	if !*measure {
		t.Skip("depends on the machine's speed: run with -measure")
	}
	c := newCluster(t, "a", "b", "c")
	c.together(t)
	stop := burn()
	defer stop()
	doubts := 0
	for began := time.Now(); time.Since(began) < 4*time.Second; time.Sleep(20 * time.Millisecond) {
		for _, n := range c.nodes {
			v := n.View()
			for _, m := range v.Members {
				switch m.Verdict {
				case announcer.NodeGone:
					t.Fatalf("a false alarm:\n%s", v)
				case announcer.AgentGone:
					doubts++
				}
			}
			if len(v.Members) != 3 || v.Guarded {
				t.Fatalf("%s", v)
			}
		}
	}
	t.Logf("4 s with all cores busy: no node called gone, an agent %d times", doubts)
	if doubts > 0 {
		t.Errorf("an agent was called gone %d times", doubts)
	}
}

// TestMany simulates -members in one process: how long they take to meet, to
// notice one that loses power, and what they cost.
func TestMany(t *testing.T) {
	if *many == 0 {
		t.Skip("-members=200 simulates a large cluster")
	}
	c := newCluster(t)
	began := time.Now()
	for i := range *many {
		c.start(fmt.Sprintf("n%03d", i), func(cfg *Config) { cfg.tuning = slowed(standard, *slow) })
		time.Sleep(20 * time.Millisecond) // they share this machine's cores
	}
	wait := func(what string, ok func(announcer.View) bool) time.Duration {
		began := time.Now()
		for _, n := range c.nodes {
			for !ok(n.View()) {
				if time.Since(began) > time.Duration(*slow)*time.Minute {
					t.Fatalf("not within a minute each: %s; %s holds\n%s", what, n.cfg.Node, n.View())
				}
				time.Sleep(5 * time.Millisecond)
			}
		}
		return time.Since(began)
	}
	wait("all meet", func(v announcer.View) bool {
		return len(v.Members) == *many && !slices.ContainsFunc(v.Members, func(m announcer.Member) bool { return m.Report == nil })
	})
	t.Logf("%d members know each other after %s", *many, time.Since(began).Round(time.Millisecond))
	time.Sleep(time.Duration(*slow) * 3 * time.Second)
	lost := c.nodes["n007"]
	c.f.power(lost.addr, false)
	delete(c.nodes, "n007")
	defer func() {
		var all sync.WaitGroup
		for _, n := range c.nodes {
			all.Go(n.stop)
		}
		all.Wait()
	}()
	took := wait("all notice", func(v announcer.View) bool { return v.Member("n007").Verdict == announcer.NodeGone })
	t.Logf("power loss known by all after %s, at full speed that is %s", took.Round(time.Millisecond), (took / time.Duration(*slow)).Round(time.Millisecond))
	for _, n := range c.nodes {
		if gone := n.View().Quarantined(); len(gone) != 1 {
			t.Fatalf("%s holds %v for gone", n.cfg.Node, gone)
		}
	}
}
