package apiserver

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
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
