package asktest

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is promised of an address while something fails: the longest that nobody answers for
// it while a node is well that could, and the longest that two nodes do.
const (
	PromisedSilence = time.Second
	PromisedDoubled = 500 * time.Millisecond
)

// steady is how late programs may get a core on a machine that is held to the promise. Nodes
// that share it are as late, one after the other.
const steady = 50 * time.Millisecond

// slack is how many times longer than promised it may take on another machine.
const slack = 10

// Limits are what an address is held to.
type Limits struct{ Silence, Doubled time.Duration }

// Wide are the limits where other programs may keep the test waiting.
var Wide = Limits{slack * PromisedSilence, slack * PromisedDoubled}

// LimitsAt returns the limits on a machine where a program waited so long for a core: what is
// promised, or ten times that.
func LimitsAt(stalled time.Duration) Limits {
	if stalled < steady {
		return Limits{PromisedSilence, PromisedDoubled}
	}
	return Wide
}

// Stalls measures until t ends how late a program gets a core when it wants it. The function
// longest returns the longest wait so far, on any core.
func Stalls(t testing.TB) (longest func() time.Duration) {
	t.Helper()
	var worst atomic.Int64
	done := make(chan struct{})
	var wg sync.WaitGroup
	for core := range runtime.NumCPU() {
		wg.Go(func() {
			runtime.LockOSThread() // and never unlocks it: the thread's core is to end with it
			var one unix.CPUSet
			one.Set(core)
			_ = unix.SchedSetaffinity(0, &one) // without it the thread measures any core
			stall(done, &worst)
		})
	}
	t.Cleanup(func() { close(done); wg.Wait() })
	return func() time.Duration { return time.Duration(worst.Load()) }
}

// stall wants the core every few milliseconds until done, and keeps in worst how late it got
// it.
func stall(done chan struct{}, worst *atomic.Int64) {
	const every = 5 * time.Millisecond
	rest := unix.NsecToTimespec(every.Nanoseconds())
	for {
		select {
		case <-done:
			return
		default:
		}
		began := time.Now()
		_ = unix.Nanosleep(&rest, nil) // of this thread: a goroutine's wait needs another one
		late := int64(time.Since(began) - every)
		for was := worst.Load(); late > was && !worst.CompareAndSwap(was, late); was = worst.Load() {
		}
	}
}
