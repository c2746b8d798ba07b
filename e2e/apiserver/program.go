package apiserver

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// program is one that runs until stop, or until this process ends.
type program struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
}

// run starts one of the programs with a log of its own.
func (s *Server) run(name string, args ...string) error {
	log, err := os.Create(s.file(name + ".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	p := &program{name: name, cmd: exec.Command(s.programs[name], args...), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = s.dir, log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the death signal is of the thread that started it
		defer close(p.done)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	s.started = append(s.started, p)
	return nil
}

func (p *program) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *program) stop() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// CPU returns the CPU time that kube-apiserver has used since it started.
func (s *Server) CPU() (time.Duration, error) {
	i := slices.IndexFunc(s.started, func(p *program) bool { return p.name == "kube-apiserver" })
	if i < 0 {
		return 0, errors.New("kube-apiserver does not run")
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.started[i].cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold spaces. Behind it utime and stime are the 12th
	// and 13th field, in hundredths of a second (proc_pid_stat(5)).
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/PID/stat has %d fields", len(fields))
	}
	user, errUser := strconv.ParseInt(fields[11], 10, 64)
	system, errSystem := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(errUser, errSystem)
}
