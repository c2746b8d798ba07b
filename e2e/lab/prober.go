package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"

	"github.com/fairlead/fairlead/e2e/probe"
)

// Prober is a probe that goes on until it is stopped.
type Prober struct {
	cmd           *exec.Cmd
	in            io.Closer // the probe ends when it does
	out, problems bytes.Buffer
}

// StartProbe begins to make requests to target from a host; args are flags of
// "hello probe".
func (l *Lab) StartProbe(ctx context.Context, host, target string, args ...string) (*Prober, error) {
	cmd, err := l.Command(ctx, host, probeCommand(l.binary("hello"), target, args)...)
	if err != nil {
		return nil, err
	}
	return startProber(cmd)
}

// StartProbeFromPod does the same in a pod of HelloImage.
func (l *Lab) StartProbeFromPod(ctx context.Context, p Pod, target string, args ...string) (*Prober, error) {
	cmd, err := l.PodCommand(ctx, p, probeCommand("/hello", target, args)...)
	if err != nil {
		return nil, err
	}
	return startProber(cmd)
}

func probeCommand(hello, target string, args []string) []string {
	return append(append([]string{hello, "probe", "-n=0"}, args...), target)
}

func startProber(cmd *exec.Cmd) (*Prober, error) {
	p := &Prober{cmd: cmd}
	cmd.Stdout, cmd.Stderr = &p.out, &p.problems
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	p.in = in
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	return p, nil
}

// Stop lets the requests that are under way end, and sums all of them up.
func (p *Prober) Stop() (probe.Report, error) {
	p.in.Close()
	err := p.cmd.Wait()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, lastLines(p.problems.String(), 5))
	}
	return readReport(p.out.Bytes(), err)
}
