package forwarding

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

// process is a program that runs in a namespace until stop, or until this
// process ends.
type process struct {
	cmd   *exec.Cmd
	began time.Time
	done  chan struct{}
}

func startProcess(s space, env []string, log string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{cmd: s.command(context.Background(), args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = out, out, append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the death signal is of the thread that started it
		defer close(p.done)
		p.began = time.Now()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	return p, nil
}

// stop asks the process to end, and makes it after ten seconds.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// ended returns an error if the process has ended.
func (p *process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s has ended: %s", p.cmd.Args[3], p.cmd.ProcessState)
	default:
		return nil
	}
}

// cpu is the processor time of the process in nanoseconds, and with it that of its
// children that have ended, in steps of ten milliseconds.
func (p *process) cpu() (time.Duration, error) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	children, err := childrenIn(string(line))
	if err != nil {
		return 0, err
	}
	var own unix.Timespec
	if err := unix.ClockGettime(clockOf(p.cmd.Process.Pid), &own); err != nil {
		return 0, fmt.Errorf("the processor time of a process: %w", err)
	}
	return children + time.Duration(own.Nano()), nil
}

// clockOf is the clock of a process's processor time, as clock_getcpuclockid(3) makes it.
func clockOf(pid int) int32 {
	const whole = 2 // CPUCLOCK_SCHED, without the bit for one thread
	return int32(^pid<<3 | whole)
}

// tick is the unit of times in /proc, on every architecture that Go knows.
const tick = 10 * time.Millisecond

// childrenIn reads the processor time of the children that have ended.
func childrenIn(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:]) // the name may have spaces and brackets
	if len(fields) < 15 {
		return 0, fmt.Errorf("no stat line: %q", stat)
	}
	var ticks int64
	for _, f := range fields[13:15] { // cutime, cstime: proc(5)
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("no stat line: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// memory is the resident memory, in bytes.
func (p *process) memory() (int64, error) { return p.status("VmRSS") }

// status reads a line of the process's status in KiB, and returns it in bytes.
func (p *process) status(name string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, name+":"); ok {
			kib, err := strconv.ParseInt(strings.Fields(text)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in %q", name, status)
}

// rest waits until the process has little to do, for a minute at most.
func (p *process) rest(ctx context.Context) error {
	const look, little = 3 * time.Second, 60 * time.Millisecond
	before, err := p.cpu()
	for began := time.Now(); err == nil && time.Since(began) < time.Minute; {
		pause(ctx, look)
		var now time.Duration
		if now, err = p.cpu(); now-before < little {
			break
		}
		before = now
	}
	return errors.Join(err, p.ended(), ctx.Err())
}

// load returns how much processor time the process uses in a second.
func (p *process) load(ctx context.Context, length time.Duration) (float64, error) {
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}
	pause(ctx, length)
	after, err := p.cpu()
	return (after - before).Seconds() / length.Seconds(), errors.Join(err, ctx.Err())
}

// addMemory adds the resident memory, and the most that it was.
func (p *process) addMemory(out *report.Lines, keys string) error {
	now, err := p.memory()
	if err != nil {
		return err
	}
	most, err := p.status("VmHWM")
	out.Add("LargeMemory/"+keys, 1, report.Of(float64(now), "B"), report.Of(float64(most), "peak-B"))
	return err
}

// samples are what a process had used when.
type samples []struct {
	at  time.Time
	cpu time.Duration
}

// sampleCPU looks at the processor time every 5 ms until the function that it returns
// is called.
func (p *process) sampleCPU(ctx context.Context) func() samples {
	ctx, cancel := context.WithCancel(ctx)
	var out samples
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			if cpu, err := p.cpu(); err == nil {
				out = append(out, struct {
					at  time.Time
					cpu time.Duration
				}{time.Now(), cpu})
			}
			pause(ctx, 5*time.Millisecond)
		}
	})
	return func() samples {
		cancel()
		done.Wait()
		return out
	}
}

// until returns the processor time that was used at first after at.
func (s samples) until(at time.Time) time.Duration {
	for _, one := range s {
		if !one.at.Before(at) {
			return one.cpu
		}
	}
	return s[len(s)-1].cpu
}
