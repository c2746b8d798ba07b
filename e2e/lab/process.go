package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one long-running program of the lab.
type process struct {
	name    string // of its record and its log
	enter   []string
	cgroups []string // joined before the program starts
	args    []string
	clone   uintptr // new namespaces
}

// record is how a process is found again, also by another run of the lab:
// its pid, and when it started, because pids are used again.
type record struct {
	pid   int
	start string
}

// recordScript writes the process's own stat line before it becomes the
// program, so that there is no moment at which a program runs unrecorded.
const recordScript = `set -e
read -r stat </proc/self/stat
printf '%s\n' "$stat" >"$0"
for c in $FAIRLEAD_LAB_CGROUPS; do echo 0 >"$c/cgroup.procs"; done
unset FAIRLEAD_LAB_CGROUPS
exec "$@"`

// start runs p in a session of its own, so that it outlives the lab command
// and no Ctrl-C reaches it.
func (l *Lab) start(p process) error {
	log, err := os.OpenFile(l.state.log(p.name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	defer log.Close()
	args := append([]string{"-c", recordScript, l.state.record(p.name)}, p.enter...)
	cmd := exec.Command("/bin/sh", append(args, p.args...)...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "FAIRLEAD_LAB_CGROUPS="+strings.Join(p.cgroups, " "))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: p.clone}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	go func() { _ = cmd.Wait() }() // reaps it if it ends before the lab command does
	return nil
}

// running returns the record of a process that is alive.
func (l *Lab) running(name string) (record, bool) {
	line, err := os.ReadFile(l.state.record(name))
	if err != nil || !l.state.sameBoot() {
		return record{}, false
	}
	was, err := parseStat(string(line))
	if err != nil {
		return record{}, false
	}
	return was, alive(was)
}

func alive(was record) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", was.pid))
	if err != nil {
		return false
	}
	now, err := parseStat(string(line))
	return err == nil && now == was && !strings.Contains(string(line), ") Z ")
}

// parseStat reads the pid and the start time of a line of /proc/PID/stat. The
// name in it may hold spaces and parentheses.
func parseStat(line string) (record, error) {
	head, _, _ := strings.Cut(line, " ")
	pid, err := strconv.Atoi(head)
	if err != nil {
		return record{}, fmt.Errorf("stat line %q: %w", line, err)
	}
	fields := strings.Fields(line[strings.LastIndex(line, ")")+1:])
	const startTime = 22 - 3 // field 22; the name was field 2
	if len(fields) <= startTime {
		return record{}, fmt.Errorf("stat line %q: too short", line)
	}
	return record{pid: pid, start: fields[startTime]}, nil
}

// signal sends sig to the recorded process, or, if it only waits in front of
// a process in another pid namespace, to that one. No process is not an error.
func (l *Lab) signal(name string, sig syscall.Signal) error {
	was, ok := l.running(name)
	if !ok {
		return nil
	}
	for _, target := range append(children(was.pid), was) {
		if err := signalRecord(target, sig); err != nil {
			return fmt.Errorf("signal %s: %w", name, err)
		}
	}
	return nil
}

// signalRecord takes hold of the process before it compares the start times,
// so that a pid used again in between is not hit.
func signalRecord(was record, sig syscall.Signal) error {
	p, err := os.FindProcess(was.pid)
	if err != nil {
		return err
	}
	defer func() { _ = p.Release() }()
	if !alive(was) {
		return nil
	}
	if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// children of nsenter --pid: the program itself. Other processes' children are
// their own business.
func children(pid int) []record {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || strings.TrimSpace(string(comm)) != "nsenter" {
		return nil
	}
	list, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	var found []record
	for _, child := range strings.Fields(string(list)) {
		line, err := os.ReadFile("/proc/" + child + "/stat")
		if err != nil {
			continue
		}
		if r, err := parseStat(string(line)); err == nil {
			found = append(found, r)
		}
	}
	return found
}

// stop kills the process and waits until it is gone.
func (l *Lab) stop(ctx context.Context, name string) error {
	if err := l.signal(name, syscall.SIGKILL); err != nil {
		return err
	}
	err := Until(ctx, 30*time.Second, "end of "+name, func(context.Context) error {
		if _, ok := l.running(name); ok {
			return errors.New("still running")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return os.RemoveAll(l.state.record(name))
}

// records lists the names of all processes that were ever started.
func (l *Lab) records() []string {
	found, _ := filepath.Glob(l.state.record("*"))
	for i := range found {
		found[i] = filepath.Base(found[i])
	}
	return found
}

// ProcessStatus is a process as the lab recorded it.
type ProcessStatus struct {
	Name  string
	PID   int
	Alive bool
}

// State is "running" or "gone".
func (p ProcessStatus) State() string {
	if p.Alive {
		return "running"
	}
	return "gone"
}

// Processes lists the lab's programs, sorted by name.
func (l *Lab) Processes() []ProcessStatus {
	var list []ProcessStatus
	for _, name := range l.records() {
		was, ok := l.running(name)
		list = append(list, ProcessStatus{Name: name, PID: was.pid, Alive: ok})
	}
	return list
}
