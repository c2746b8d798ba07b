// Package urgent gives a thread its turn before ordinary ones.
package urgent

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// slice is how long an ordinary thread asks to run at a time. The shorter, the earlier it gets
// its turn after a wait (EEVDF, from Linux 6.12; older kernels ignore it). It is the least that
// the kernel takes.
const slice = 100 * time.Microsecond

// Thread puts the calling thread before ordinary ones. It is to be locked to its goroutine for
// good. The threads that it starts are ordinary.
//
// The kernel refuses SCHED_RR in the control groups of pods where it shares out real time by
// group (CONFIG_RT_GROUP_SCHED with cgroups v1, whose cpu.rt_runtime_us is 0 there), even with
// CAP_SYS_NICE. Then the thread is an ordinary one of the highest priority. The error says that it
// is not even that.
func Thread() error {
	return first(func(attr unix.SchedAttr) error { return unix.SchedSetAttr(0, &attr, 0) })
}

// first sets the most urgent that set takes.
func first(set func(unix.SchedAttr) error) error {
	refused := []error{errors.New("thread gets no priority")}
	for _, attr := range []unix.SchedAttr{
		{Policy: unix.SCHED_RR, Priority: 1},
		{Policy: unix.SCHED_NORMAL, Nice: -20, Runtime: uint64(slice)},
	} {
		attr.Size, attr.Flags = unix.SizeofSchedAttr, unix.SCHED_FLAG_RESET_ON_FORK
		err := set(attr)
		if err == nil {
			return nil
		}
		refused = append(refused, err)
	}
	return errors.Join(refused...)
}
