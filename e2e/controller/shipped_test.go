package controller_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/e2e/lab"
)

// binary is the shipped program, built once, with fairlead-ccm beside it.
var binary = sync.OnceValues(func() (string, error) { return lab.BuildShipped(context.Background(), scratch) })

// shipped is a running command of the shipped program.
type shipped struct {
	c   *cluster
	cmd *exec.Cmd
	log *os.File
}

// ship runs a shipped program, such as fairlead, until stop or the end of the test.
func (c *cluster) ship(name string, args ...string) *shipped {
	c.Helper()
	path, err := binary()
	c.must(err)
	log, err := os.Create(filepath.Join(c.ArtifactDir(), name+".log"))
	c.must(err)
	p := &shipped{c: c, cmd: exec.Command(filepath.Join(filepath.Dir(path), name), args...), log: log}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	c.must(p.cmd.Start())
	c.Cleanup(func() {
		p.stop()
		log.Close()
		if text := p.said(); c.Failed() {
			c.Logf("%s", text[max(0, len(text)-6000):])
		}
	})
	return p
}

func (p *shipped) stop() {
	if p.cmd.ProcessState != nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	killer := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer killer.Stop()
	if err := p.cmd.Wait(); err != nil {
		p.c.Errorf("%s: %v", p.cmd.Args, err)
	}
}

// said is what it has logged so far.
func (p *shipped) said() string {
	text, err := os.ReadFile(p.log.Name())
	if err != nil {
		p.c.Error(err)
	}
	return string(text)
}
