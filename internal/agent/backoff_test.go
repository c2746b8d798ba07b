package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/bits"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/internal/test/storytest"
	"github.com/fairlead/fairlead/nodeport/health"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/dataplanetest"
	nftables "github.com/fairlead/fairlead/proxy/nftables/netlink"
)

// runEngine runs an engine of a node with n ClusterIPs on d until the test ends.
func runEngine(t *testing.T, d proxy.Dataplane, n int, log io.Writer) *engine {
	t.Helper()
	world := storytest.NewWorld()
	lines := []string{"node a ips=198.51.100.1"}
	for i := range n {
		lines = append(lines, fmt.Sprintf("service default/s%[1]d ip=10.96.%[2]d.%[3]d ports=tcp/80\nendpoint default/s%[1]d 10.1.%[2]d.%[3]d:80 node=a", i, i/250, 1+i%250))
	}
	if err := world.Do(strings.Join(lines, "\n")); err != nil {
		t.Fatal(err)
	}
	s, err := world.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(&Config{Node: "a", Log: slog.New(slog.NewTextHandler(log, nil)), Dataplane: d}, newMetrics(nil), &health.Proxy{}, func() {})
	e.proxy, e.through = Fairlead, func() uint64 { return 0 }
	e.follow = func(_ *snapshot.Snapshot, _, _ []netip.Addr) {}
	e.loop.Resync = time.Hour // nothing is found by looking now and then
	e.Give(0, node.Program{Snapshot: s}, time.Now(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { e.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return e
}

// steps is a Dataplane that notes when it repaired something.
type steps struct {
	*dataplanetest.Fake
	at []time.Time
}

func (s *steps) Sync(ctx context.Context, t *proxy.Table) (proxy.Change, error) {
	c, err := s.Fake.Sync(ctx, t)
	if c.Repaired {
		s.at = append(s.at, time.Now())
	}
	return c, err
}

// spec 102: what somebody else changes is repaired at once. Who changes it all the time is
// answered at growing intervals, and once that is over, at once again.
func TestRepairsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &steps{Fake: dataplanetest.NewFake()}
		runEngine(t, d, 1, io.Discard)
		synctest.Wait()
		repaired := func(during time.Duration) []time.Duration {
			began, first := time.Now(), len(d.at)
			for end := began.Add(during); ; time.Sleep(50 * time.Millisecond) {
				d.Set(nil)
				synctest.Wait()
				if !time.Now().Before(end) {
					break
				}
			}
			time.Sleep(maxPause)
			synctest.Wait()
			if d.Table() == nil {
				t.Error("not repaired")
			}
			var out []time.Duration
			for _, at := range d.at[first:] {
				out = append(out, at.Sub(began))
			}
			return out
		}
		if got := repaired(0); len(got) != 1 || got[0] != 0 {
			t.Errorf("once: repaired after %v", got)
		}
		time.Sleep(2 * calm)
		got := repaired(time.Minute)
		if len(got) < 10 || len(got) > 16 || got[0] != 0 || got[1] > 2*minPause {
			t.Errorf("all the time: repaired %d times, after %v", len(got), got)
		}
		time.Sleep(2 * calm)
		if got := repaired(0); len(got) != 1 || got[0] != 0 {
			t.Errorf("then once: repaired after %v", got)
		}
	})
}

// lines counts lines of a log that have a text.
type lines struct {
	mu   sync.Mutex
	text string
	n    int
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if strings.Contains(string(p), l.text) {
		l.n++
	}
	return len(p), nil
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// A program that deletes a table of ours every 50 ms is answered at growing intervals,
// and told of. When it ends the table is there.
func TestFightForTheTables(t *testing.T) {
	s := nstest.New(t, "fight")
	d := nftables.New(nftables.Options{Netns: int(s.Handle)})
	t.Cleanup(d.Close)
	log := &lines{text: "changed by somebody else; repaired"}
	e := runEngine(t, d, 1000, log)
	there := func() bool {
		_, err := s.Try("nft", "list", "chain", "ip", "fairlead", "services")
		return err == nil
	}
	nstest.Eventually(t, "the first Sync", there)
	flushed := time.Now()
	if _, err := s.Try("nft", "flush", "ruleset"); err != nil {
		t.Fatal(err)
	}
	nstest.Eventually(t, "the repair", func() bool { return testutil.ToFloat64(e.metrics.repairs) > 0 })
	t.Logf("repaired %v after nft flush ruleset began", time.Since(flushed))
	began, cpu := time.Now(), cpuTime(t)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	attacks, repairs := 0, 0
	for time.Since(began) < 2*time.Second || repairs < 3 && time.Since(began) < time.Minute {
		<-tick.C
		if _, err := s.Try("nft", "delete", "table", "ip", "fairlead"); err == nil {
			attacks++
		}
		repairs = int(testutil.ToFloat64(e.metrics.repairs)) - 1
	}
	took := time.Since(began)
	t.Logf("the table was deleted %d times and came back %d times in %v, for %v of CPU time", attacks, repairs, took, cpuTime(t)-cpu)
	if doubled := 2 + bits.Len64(uint64(took/minPause)); repairs < 3 || repairs > doubled {
		t.Errorf("%d repairs, want 3 to %d", repairs, doubled)
	}
	nstest.Eventually(t, "the last repair", there)
	nstest.Eventually(t, "the log", func() bool { return log.count() >= repairs })
}

// cpuTime is what this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
