package udp_test

import (
	"flag"
	"net/netip"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bfd"
	"github.com/fairlead/fairlead/announcer/bfd/udp"
)

var measure = flag.Duration("measure", 0, "how long to count false positives for; 0: not at all")

// TestFalsePositives counts the sessions that go down at 50 ms x 3 while every
// core has two programs that do nothing else than keep it busy.
func TestFalsePositives(t *testing.T) {
	if *measure == 0 {
		return // it takes minutes: make bench WHAT=bfd
	}
	a, b := wired(t)
	var downs atomic.Int64
	na := start(t, a, func(st udp.Status) {
		if st.State == bfd.Down {
			downs.Add(1)
		}
	})
	nb := start(t, b, nil)
	config := bfd.Config{MinTx: 50 * time.Millisecond, MinRx: 50 * time.Millisecond, Multiplier: 3}
	na.Sync([]udp.Peer{{Addr: netip.MustParseAddr("198.18.7.2"), Config: config}})
	nb.Sync([]udp.Peer{{Addr: netip.MustParseAddr("198.18.7.1"), Config: config}})
	na.await(t, bfd.Up)
	for range 2 * runtime.NumCPU() {
		busy := exec.Command("sh", "-c", "while :; do :; done")
		if err := busy.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = busy.Process.Kill(); _ = busy.Wait() }()
	}
	<-time.After(*measure)
	t.Logf("bench-bfd: %d false positives in %s at 50 ms x 3, %d cores with two busy programs each", downs.Load(), *measure, runtime.NumCPU())
}
