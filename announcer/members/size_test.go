package members

import (
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
)

var sized = flag.Int("sized", 0, "measure what this many members cost in TestSizes, 500 say; 0: not at all")

// spent returns the CPU time that this process took so far.
func spent(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestSizes runs -sized members in one process, -slow times as slow as agents are, and prints
// what each of them sends and computes: at rest, while one restarts, and while 2 % of them
// lose power. All of them end with the same candidates.
func TestSizes(t *testing.T) {
	if *sized == 0 {
		t.Skip("-sized=500 measures a large cluster: make bench WHAT=members")
	}
	c := newCluster(t)
	for i := range *sized {
		c.start(fmt.Sprintf("n%03d", i), func(cfg *Config) { cfg.tuning = slowed(standard, *slow) })
		time.Sleep(20 * time.Millisecond)
	}
	defer func() {
		var all sync.WaitGroup
		for _, n := range c.nodes {
			all.Go(n.stop)
		}
		all.Wait()
	}()
	began := time.Now()
	c.meet(t)
	c.agree(t, *sized)
	t.Logf("bench-members: %d members, -slow=%d: all have the same candidates %s after the last started", *sized, *slow, time.Since(began).Round(time.Second))
	window := time.Duration(*slow) * time.Second
	costs := func(what string, do func()) {
		sent, cpu := c.f.bytes.Load(), spent(t)
		do()
		time.Sleep(window)
		// In this time an agent that is not slowed down lives for a second each.
		each := float64(*sized) * window.Seconds() / float64(*slow)
		t.Logf("bench-members: %s: %.0f bytes and %.2f ms of CPU for each node and second", what, float64(c.f.bytes.Load()-sent)/each, float64((spent(t)-cpu).Milliseconds())/each)
	}
	costs("just after the start", func() {})
	c.rest(t, window)
	costs("at rest", func() {})
	costs("one restarts", func() {
		c.nodes["n007"].stop()
		c.start("n007", func(cfg *Config) { cfg.tuning = slowed(standard, *slow) })
	})
	c.agree(t, *sized)
	var off []*node
	costs("2 % lose power", func() {
		for i := range *sized / 50 {
			name := fmt.Sprintf("n%03d", 20+i)
			off = append(off, c.nodes[name])
			c.f.power(c.nodes[name].addr, false)
			c.mu.Lock()
			if c.also == nil {
				c.also = map[string]netip.AddrPort{}
			}
			c.also[name] = c.nodes[name].addr // the API still has it
			c.nodes = without(c.nodes, name)
			c.mu.Unlock()
		}
	})
	c.agree(t, *sized-len(off))
	t.Logf("bench-members: with %d off all others have the same candidates", len(off))
	for _, n := range off {
		n.stop()
	}
}

// restful is how many bytes a second each member at most sends when nobody has news to pass
// on. Until then each round of gossip is a full packet to three others: 100 kB a second.
const restful = 10_000

// rest waits until all have told what they learnt.
func (c *cluster) rest(t *testing.T, window time.Duration) {
	t.Helper()
	began, end := time.Now(), time.Now().Add(time.Duration(*slow)*time.Minute)
	for {
		sent := c.f.bytes.Load()
		time.Sleep(window)
		each := float64(c.f.bytes.Load()-sent) / float64(*sized) // in one second of theirs
		switch {
		case each < restful:
			t.Logf("bench-members: at rest after %.0f s of theirs", time.Since(began).Seconds()/float64(*slow))
			return
		case time.Now().After(end):
			t.Fatalf("each of them still sends %.0f bytes a second", each)
		}
	}
}

// meet has all members exchange what they know with one of them, twice: after that each
// knows all. By gossip alone 500 that start at once take half a minute at full speed.
func (c *cluster) meet(t *testing.T) {
	t.Helper()
	hub := c.nodes["n000"].addr.String()
	for range 2 {
		for name, n := range c.nodes {
			for len(n.View().Members) == 0 { // it has not begun
				time.Sleep(time.Millisecond)
			}
			if _, err := n.list.Join([]string{hub}); err != nil && name != "n000" {
				t.Logf("%s does not meet the first: %v", name, err)
			}
		}
	}
}

func without(nodes map[string]*node, name string) map[string]*node {
	out := maps.Clone(nodes)
	delete(out, name)
	return out
}

// agree waits until all nodes have the same view of all, with so many candidates.
func (c *cluster) agree(t *testing.T, candidates int) {
	t.Helper()
	end := time.Now().Add(time.Duration(*slow) * time.Minute)
	for name, n := range c.nodes {
		for votes(n.View()) != candidates {
			if time.Now().After(end) {
				t.Fatalf("%s has %d candidates, not %d, of\n%s", name, votes(n.View()), candidates, n.View())
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	first := ""
	for name, n := range c.nodes {
		var b strings.Builder
		for _, m := range n.View().Members {
			fmt.Fprintf(&b, "%s %t\n", m.Node, m.Candidate)
		}
		if first == "" {
			first = b.String()
		}
		if b.String() != first {
			t.Errorf("%s has other candidates than the rest", name)
		}
	}
}

func votes(v announcer.View) (n int) {
	for _, m := range v.Members {
		if m.Candidate {
			n++
		}
	}
	return n
}
