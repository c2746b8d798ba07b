package speaker_test

import (
	"log/slog"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/announcer/bgp/speaker"
)

// TestFrozen: the sessions of an agent that is frozen end by themselves within 5 s, also
// with graceful restart and without BFD, and they come back with the agent.
func TestFrozen(t *testing.T) {
	c := plain()
	c.Graceful = true
	everyRouter(t, c, func(t *testing.T, w world) {
		p := start(t, w.node)
		p.sync(two(func(p *bgp.Peer) { p.RestartTime = time.Minute })...)
		within(t, "the routes are there", w.both(t))
		_ = p.cmd.Process.Signal(syscall.SIGSTOP)
		defer func() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }()
		took := within(t, "the frozen node's routes are gone", func() bool { return routes(t, w.router) == "" })
		if took > 20*time.Second { // four times the bound, on a busy machine
			t.Errorf("that took %s", took)
		}
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
		within(t, "the routes are back", w.both(t))
	})
}

// TestFailingProcess: a session's process that fails again and again is started at
// longer and longer intervals.
func TestFailingProcess(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var starts []time.Time
	s := speaker.New(slog.New(slog.DiscardHandler), func() {}, func() *exec.Cmd {
		mu.Lock()
		defer mu.Unlock()
		starts = append(starts, time.Now())
		return exec.Command("/bin/false")
	})
	go func() { _ = s.Run(t.Context()) }()
	s.Sync(plan(peer("bad", router4)))
	within(t, "four starts", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(starts) >= 4
	})
	if took := starts[3].Sub(starts[0]); took < 2900*time.Millisecond {
		t.Errorf("four starts within %s", took)
	}
}
