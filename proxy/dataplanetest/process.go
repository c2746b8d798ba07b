package dataplanetest

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/test/intercept"
	"github.com/fairlead/fairlead/proxy"
)

// asVictim makes a test program the process of a Victim, with what StartProcess was
// given as its value.
const asVictim = "FAIRLEAD_TEST_VICTIM"

// VictimArgs returns what StartProcess was given; ok reports whether this process is
// to call Serve rather than to run tests.
func VictimArgs() (args string, ok bool) { return os.LookupEnv(asVictim) }

func errnoName(e syscall.Errno) string { return unix.ErrnoName(e) }

// Steps names the system calls of a process.
type Steps interface {
	// Step names the step that a call is; "" is none. Calls of one name are one step.
	// taken are the steps of this Sync so far.
	Step(c intercept.Call, taken []string) string
	// Answer decides about calls that no Fault strikes, and about those that are struck
	// by one that is a Reply; else f is the zero Fault.
	Answer(c intercept.Call, f Fault) intercept.Verdict
}

// process is a Victim that is this test program once more.
type process struct {
	cmd    *exec.Cmd
	in     io.Writer
	out    *json.Decoder
	steps  Steps
	served chan error // after the process has ended

	mu    sync.Mutex
	taken []string
	fault Fault
	left  int           // how often it still strikes
	hit   chan struct{} // closed when its step comes
}

// request asks a process for a Sync, or without a Table what it has open.
type request struct{ Table *proxy.Table }

// answer is what the process says.
type answer struct {
	Held int    // at first: the descriptor of intercept.Hold
	Err  string // of the Sync
	Open Open
}

// StartProcess runs the test program once more, with files as its descriptors from 3
// on. Its TestMain has to call Serve.
func StartProcess(t *testing.T, steps Steps, args string, files ...*os.File) Victim {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asVictim+"="+args)
	cmd.Stderr, cmd.ExtraFiles = os.Stderr, files
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, in: in, out: json.NewDecoder(bufio.NewReader(out)), steps: steps, served: make(chan error, 1)}
	var hello answer
	if err := p.out.Decode(&hello); err != nil {
		t.Fatalf("start a victim: %v", err)
	}
	go func() { p.served <- intercept.Serve(cmd.Process.Pid, hello.Held, p.decide) }()
	t.Cleanup(func() {
		_ = in.Close()
		if err := <-p.served; err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()
	})
	return p
}

// stepWithin is how long a step may take to come that follows a Sync.
const stepWithin = time.Minute

// Sync implements Victim.
func (p *process) Sync(t *testing.T, table *proxy.Table, f Fault) Outcome {
	t.Helper()
	hit := p.arm(f)
	said, ok := p.ask(t, request{table})
	if !ok {
		return Outcome{Killed: true}
	}
	if f.Step != "" {
		select {
		case <-hit:
		case <-time.After(stepWithin):
			t.Fatalf("the steps are %q, without %q", p.disarm(), f.Step)
		}
	}
	if f.Kill {
		p.ask(t, request{})
		return Outcome{Killed: true}
	}
	return Outcome{Steps: p.disarm(), Err: said.Err}
}

// Open implements Victim.
func (p *process) Open(t *testing.T) Open {
	t.Helper()
	said, ok := p.ask(t, request{})
	if !ok {
		t.Fatal("the victim is dead")
	}
	return said.Open
}

// ask returns what the process answers; ok is false if it was killed.
func (p *process) ask(t *testing.T, r request) (out answer, ok bool) {
	t.Helper()
	// The process may be gone already.
	if err := json.NewEncoder(p.in).Encode(r); err == nil {
		if err := p.out.Decode(&out); err == nil {
			return out, true
		}
	}
	_ = p.cmd.Wait()
	status, is := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !is || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the victim: %s", p.cmd.ProcessState)
	}
	return out, false
}

func (p *process) arm(f Fault) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken, p.fault, p.left, p.hit = nil, f, max(1, f.Times), make(chan struct{})
	return p.hit
}

func (p *process) disarm() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = Fault{}
	return slices.Clone(p.taken)
}

// decide is called for each call that waits, one after the other.
func (p *process) decide(c intercept.Call) intercept.Verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	step := p.steps.Step(c, p.taken)
	if step != "" && !slices.Contains(p.taken, step) {
		p.taken = append(p.taken, step)
	}
	if step == "" || step != p.fault.Step || p.left == 0 {
		return p.steps.Answer(c, Fault{})
	}
	if p.left == max(1, p.fault.Times) {
		close(p.hit)
	}
	p.left--
	switch {
	case p.fault.Kill:
		return intercept.Verdict{Kill: true}
	case p.fault.Errno == 0:
		return p.steps.Answer(c, Fault{})
	case p.fault.Reply:
		return p.steps.Answer(c, p.fault)
	}
	return intercept.Verdict{Answered: true, Errno: p.fault.Errno}
}

// Serve is the process of a Victim: it syncs d as the test says, until the test closes
// the standard input.
func Serve(d proxy.Dataplane, filters ...intercept.Filter) {
	held, err := intercept.Hold(filters...)
	if err != nil {
		panic(err)
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for said := (answer{Held: held}); ; {
		if err := out.Encode(said); err != nil {
			panic(err)
		}
		var r request
		if err := in.Decode(&r); err != nil {
			return
		}
		said = answer{}
		if r.Table == nil {
			said.Open = countOpen()
		} else if _, err := d.Sync(context.Background(), r.Table); err != nil {
			said.Err = err.Error()
		}
	}
}

func countOpen() Open {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	return Open{len(files), runtime.NumGoroutine()}
}
