// Package failover measures in the lab what a client sees of faults: an
// announcing node without power, agents that are killed, frozen, replaced, nodes
// that are drained. A new connection is opened every 20 ms on every path.
package failover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
)

// Bench is what to measure.
type Bench struct {
	Lab    *lab.Lab
	Out    io.Writer      // is told of every run
	Runs   map[string]int // how often, by the scenario's name
	Frozen time.Duration  // for how long an agent is frozen

	service demo.Service
}

// Run is one fault and what came of it.
type Run struct {
	Scenario string
	Node     string
	Notes    string
	Result
}

// Run measures every scenario, one after the other, in their order.
func (b *Bench) Run(ctx context.Context) ([]Run, error) {
	var err error
	if b.service, err = demo.Deploy(ctx, b.Lab, b.Lab.Root()); err != nil {
		return nil, err
	}
	var all []Run
	for _, s := range Scenarios {
		for i := range b.Runs[s.Name] {
			run, err := b.once(ctx, s, i)
			if err != nil {
				return all, fmt.Errorf("%s, run %d: %w", s.Name, i+1, err)
			}
			all = append(all, run)
			fmt.Fprintf(b.Out, "%s %d/%d: node=%s %s %s\n", s.Name, i+1, b.Runs[s.Name], run.Node, run.Notes, run.Result)
		}
	}
	return all, nil
}

// once measures one run and undoes its fault.
func (b *Bench) once(ctx context.Context, s Scenario, i int) (run Run, err error) {
	// The two addresses may be at different nodes: each has its turns.
	vip := b.service.ExternalIPs[i%len(b.service.ExternalIPs)]
	node, err := b.ready(ctx, vip)
	if err != nil {
		return run, err
	}
	run = Run{Scenario: s.Name, Node: node}
	clients, err := b.connect(ctx)
	if err != nil {
		return run, err
	}
	f := &fault{Bench: b, node: node}
	defer func() {
		if undo := f.undo(context.WithoutCancel(ctx)); undo != nil {
			err = errors.Join(err, undo)
		}
	}()
	time.Sleep(before)
	f.at = time.Now()
	errFault := s.act(ctx, f)
	reports, err := clients.stop()
	if err = errors.Join(errFault, err); err != nil {
		return run, err
	}
	run.Result, run.Notes = reduce(reports, f.at, s.Moves), f.notes
	return run, nil
}

// before is for how long clients connect before the fault.
const before = 2 * time.Second

// ready waits until all is as it should be for the next fault: every path is
// clean, all agents speak, and beside the node that announces vip, which it
// returns, another one may be elected.
func (b *Bench) ready(ctx context.Context, vip string) (node string, err error) {
	err = lab.Until(ctx, 5*time.Minute, "the next candidate", func(ctx context.Context) error {
		for _, p := range b.paths() {
			r, err := b.Lab.Probe(ctx, p.host, p.target, "-n=40", "-c=4", "-timeout=500ms")
			if err != nil {
				return err
			}
			if r.Failures > 0 {
				return fmt.Errorf("%s: %d requests failed", p.target, r.Failures)
			}
		}
		at, err := demo.FindAnnouncer(ctx, b.Lab, vip)
		if err != nil {
			return err
		}
		node = at.Node
		if n, err := b.metric(ctx, node, `fairlead_members{verdict="alive"}`); err != nil || int(n) < len(b.Lab.Nodes()) {
			return errors.Join(err, fmt.Errorf("%v agents speak", n))
		}
		if n, err := b.metric(ctx, node, "fairlead_member_candidates"); err != nil || n < 2 {
			return errors.Join(err, fmt.Errorf("%v nodes may be elected", n))
		}
		return err
	})
	return node, err
}

// metric reads a number from a node's agent.
func (b *Bench) metric(ctx context.Context, node, name string) (float64, error) {
	return b.Lab.Metric(ctx, node, "127.0.0.1:10249", name)
}
