package netlink

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// BenchmarkRepair times how long what others did to our tables lasts: from the start of
// their nft to the end of the repair. It also measures the CPU time of the repair. It
// prints one line for each number of Services, with medians; run it with -benchtime 1x.
func BenchmarkRepair(b *testing.B) {
	for _, n := range []int{1000, 5000, 50000} {
		table, runs := services(snapshot.IPv4, n, 5), 7
		if n > 5000 {
			runs = 3
		}
		line := fmt.Sprintf("bench-repair: services=%d endpoints=%d", n, 5*n)
		line += medians(b, "load", runs, func() func() {
			e := newSpace(b, "load").engine(b)
			return func() { sync(b, e, table) }
		})
		s := newSpace(b, "repair")
		did := keep(b, s.engine(b), table)
		for _, br := range breakages {
			line += medians(b, strings.ReplaceAll(br.what, " ", "_"), runs, func() func() {
				text := br.text(b, s)
				return func() {
					s.Pipe(b, text, "nft", "-f", "-")
					repaired(b, did)
				}
			})
		}
		fmt.Println(line)
	}
}

// medians returns as text how long what prepare returns takes, and its CPU time.
func medians(b *testing.B, what string, runs int, prepare func() func()) string {
	b.Helper()
	var times, used []time.Duration
	for range runs {
		f := prepare()
		_, cpu := cpuTimes(b, func() { times = append(times, timed(f)) })
		used = append(used, cpu)
	}
	return fmt.Sprintf(" %s_ms=%d %s_cpu_ms=%d", what, median(times).Milliseconds(), what, median(used).Milliseconds())
}

// BenchmarkListener measures what a watch costs others: the CPU time of their
// transactions of 10,000 elements with it and without. It also measures what the watch
// costs this process beside them. A listener in any network namespace of the machine
// costs as much, so the least of many turns counts. It prints one line; run it with
// -benchtime 1x.
func BenchmarkListener(b *testing.B) {
	const elems, runs, turns = 10000, 6, 24
	s := newSpace(b, "listener")
	o := s.newStranger(b, 0)
	least := [2]time.Duration{time.Hour, time.Hour}
	var reading [2]time.Duration
	for i := range 2 * turns { // in turn: other work comes and goes on this machine
		with := i % 2
		var w *watch
		if with == 1 {
			var err error
			if w, err = openWatch(int(s.Handle), func() {}); err != nil {
				b.Fatal(err)
			}
		}
		thread, all := cpuTimes(b, func() {
			for range runs {
				o.toggle(b, elems, 0)
			}
		})
		least[with] = min(least[with], thread)
		reading[with] += all - thread
		if w != nil {
			w.close()
		}
	}
	fmt.Printf("bench-listener: elements=%d without_cpu_ms=%.2f with_cpu_ms=%.2f watch_cpu_ms=%.2f\n", elems,
		ms(least[0]/runs), ms(least[1]/runs), ms((reading[1]-reading[0])/runs/turns))
}

// cpuTimes returns the CPU time of f's thread, and of the process while it ran.
func cpuTimes(b *testing.B, f func()) (thread, all time.Duration) {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used := func(who int) time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	t, a := used(unix.RUSAGE_THREAD), used(unix.RUSAGE_SELF)
	f()
	return used(unix.RUSAGE_THREAD) - t, used(unix.RUSAGE_SELF) - a
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
