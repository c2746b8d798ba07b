package urgent

import (
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Where the kernel refuses a real-time thread, the thread is still first among ordinary ones.
func TestThread(t *testing.T) {
	for name, c := range map[string]struct {
		refuse func(unix.SchedAttr) bool
		policy uint32
		nice   int32
		fails  bool
	}{
		"real time is allowed": {refuse: func(unix.SchedAttr) bool { return false }, policy: unix.SCHED_RR},
		"its group has no real time": {refuse: func(a unix.SchedAttr) bool { return a.Policy == unix.SCHED_RR },
			policy: unix.SCHED_NORMAL, nice: -20},
		"it has no right to any": {refuse: func(unix.SchedAttr) bool { return true }, policy: unix.SCHED_NORMAL, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			type outcome struct {
				got         *unix.SchedAttr
				asked, read error
			}
			done := make(chan outcome)
			go func() {
				runtime.LockOSThread() // and never unlocks it: its priority ends with it
				var o outcome
				// "make test" runs this at the idle class, which a thread keeps that gets no other.
				if o.read = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0); o.read != nil {
					done <- o
					return
				}
				o.asked = first(func(attr unix.SchedAttr) error {
					if c.refuse(attr) {
						return unix.EPERM
					}
					return unix.SchedSetAttr(0, &attr, 0)
				})
				o.got, o.read = unix.SchedGetAttr(0, 0)
				done <- o
			}()
			o := <-done
			if o.read != nil {
				t.Fatal(o.read)
			}
			if c.fails != errors.Is(o.asked, unix.EPERM) {
				t.Errorf("error %v, want one: %t", o.asked, c.fails)
			}
			if o.got.Policy != c.policy || o.got.Nice != c.nice {
				t.Errorf("policy %d at nice %d, want %d at %d", o.got.Policy, o.got.Nice, c.policy, c.nice)
			}
		})
	}
}
