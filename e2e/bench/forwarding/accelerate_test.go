package forwarding

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// The agent as it is shipped puts its eBPF programs before a pod's sockets, is
// killed and restarted while the pod connects as fast as it can, and no
// connection fails; told to leave them off, it takes them away, and so does
// cleanup.
func TestAccelerate(t *testing.T) {
	if os.Getenv("FAIRLEAD_E2E") != "1" {
		t.Skip("FAIRLEAD_E2E is not 1")
	}
	b := &EastWest{Bench: Bench{Out: os.Stderr}}
	contenders, stop, err := b.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	undo := func() error { return nil }
	t.Cleanup(func() {
		err := undo()
		if t.Failed() {
			err = fmt.Errorf("the test failed")
		}
		if stop(&err); err != nil {
			t.Error(err)
		}
	})
	ours := contenders[1]
	if undo, err = b.extend(t.Context(), &ours); err != nil {
		t.Fatal(err)
	}
	if err := b.cluster.grow(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	a := &accelerated{t, b, ours, nil}
	a.restart(func(*process) {})
	a.wantMode("ebpf")
	if err := join(b.cgroup.with); err != nil {
		t.Fatal(err)
	}
	made, end := a.connect()
	for range 3 {
		a.restart(func(p *process) { _ = p.cmd.Process.Kill(); <-p.done })
	}
	a.restart((*process).stop)
	a.wantMode("ebpf")
	end()
	if *made < 1000 {
		t.Errorf("only %d connections", *made)
	}
	t.Logf("%d connections, none failed", *made)

	a.restart((*process).stop, "--accelerate=off")
	a.wantMode("off")
	if err := b.pins.attached(); err == nil {
		t.Error("turned off, and the programs are attached")
	}
	a.restart((*process).stop)
	a.wantMode("ebpf")
	a.agent.stop()
	if err := b.world.node.run(t.Context(), "", ours.args[0], "cleanup", "--bpf-dir="+b.pins.dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(b.pins.dir); !os.IsNotExist(err) {
		t.Errorf("after the cleanup: %v", err)
	}
}

type accelerated struct {
	*testing.T
	*EastWest
	ours  contender
	agent *process
}

// restart ends the agent and starts another, and waits until that has programmed.
func (a *accelerated) restart(end func(*process), flags ...string) {
	a.Helper()
	if a.agent != nil {
		end(a.agent)
	}
	p, err := startProcess(a.world.node, nil, a.logs+"/accelerated.log", append(slices.Clone(a.ours.args), flags...)...)
	if err != nil {
		a.Fatal(err)
	}
	a.agent = p
	a.Cleanup(p.stop)
	err = until(a.Context(), 20*time.Millisecond, patience, "the agent", func() error {
		_, ok, err := a.ours.programmed(a.Context(), a.world)
		if err == nil && !ok {
			err = fmt.Errorf("it has not programmed yet")
		}
		return err
	})
	if err != nil {
		a.Fatal(err)
	}
}

// wantMode waits until the NodeState says so.
func (a *accelerated) wantMode(want string) {
	a.Helper()
	err := until(a.Context(), 100*time.Millisecond, patience, "the NodeState to say "+want, func() error {
		raw, err := a.cluster.client.Discovery().RESTClient().Get().AbsPath("/apis/fairlead.io/v1alpha1/nodestates/" + nodeName).DoRaw(a.Context())
		if err != nil {
			return err
		}
		var n v1alpha1.NodeState
		if err := json.Unmarshal(raw, &n); err != nil {
			return err
		}
		if got := n.Status.Engine.Accelerator; got.Mode != want {
			return fmt.Errorf("it says %+v", got)
		}
		return nil
	})
	if err != nil {
		a.Fatal(err)
	}
}

// connect makes connections to the Service until end, which fails the test if one
// of them failed.
func (a *accelerated) connect() (made *int, end func()) {
	ctx, cancel := context.WithCancel(a.Context())
	made = new(int)
	done := make(chan error)
	go func() {
		done <- a.east.client.do(func() error {
			for ; ctx.Err() == nil; *made++ {
				if _, err := again(func() (int, error) { return 0, accepts(a.cluster.east[near].at(80), 5*time.Second) }); err != nil {
					return fmt.Errorf("connection %d: %w", *made, err)
				}
			}
			return nil
		})
	}()
	return made, func() {
		cancel()
		if err := <-done; err != nil {
			a.Error(err)
		}
	}
}
