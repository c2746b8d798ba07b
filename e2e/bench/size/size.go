// Package size measures what fairlead costs the API server of a large cluster: what it
// writes, what it has agents told, and the CPU of the kube-apiserver. The agents are
// simulated: each has the shipped informers, decision and writer of its NodeState, and a
// connection of its own. Engine, links and gossip are left out.
package size

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/e2e/apiserver"
	"github.com/fairlead/fairlead/internal/controller"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Size is a cluster to measure.
type Size struct {
	Agents, Services int
	Rest, Lost       time.Duration // how long each is watched
	Restarts         int           // of agents, one after the other
	Pause            time.Duration // between two restarts
	Out              io.Writer     // what is going on
}

// startsWithin is how long an agent may take to read the cluster, on a machine that is
// busy with others.
const startsWithin = 10 * time.Minute

// lost is the node that is lost, and full the agent that follows all Services.
const (
	lost = 7
	full = 0
)

// Row is what was counted in one situation.
type Row struct {
	Name                string
	Took                time.Duration
	Agents, Controller  int64   // objects written
	WatchedNodes, Other float64 // bytes of watches of Nodes and their roster, and of the rest, for each agent
	CPU                 time.Duration
}

// Result is what came of it.
type Result struct {
	Size
	Rows  []Row
	Start Start
}

// Start is what an agent reads when it starts, and how long all took to start.
type Start struct {
	Bytes int64
	All   time.Duration
}

// world is a cluster that is measured.
type world struct {
	Size
	server     *apiserver.Server
	cfg        *rest.Config
	admin      *kube.Clients
	log        *slog.Logger
	gossip     *gossip
	all        *meter // of all agents but the full one
	controller *meter
	full       *meter
}

// Run measures. What the programs log is in dir.
func (z Size) Run(ctx context.Context, dir string) (out Result, err error) {
	out.Size = z
	w := &world{
		Size: z, log: slog.New(slog.DiscardHandler), gossip: newGossip(z.Agents),
		all: &meter{watched: map[string]int64{}}, controller: &meter{watched: map[string]int64{}}, full: &meter{watched: map[string]int64{}},
	}
	if w.server, err = apiserver.Start(ctx, dir, z.Out); err != nil {
		return out, err
	}
	defer w.server.Stop()
	if w.cfg, err = clientcmd.BuildConfigFromFlags("", w.server.Kubeconfig); err != nil {
		return out, err
	}
	if w.admin, err = kube.FromConfig(w.cfg); err != nil {
		return out, err
	}
	w.say("making %d Nodes and %d Services", z.Agents, z.Services)
	if err := fill(ctx, w.server, w.admin, z.Agents, z.Services); err != nil {
		return out, fmt.Errorf("make the cluster: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	ctx, end := context.WithCancel(ctx)
	g.Go(func() error { return beat(ctx, w.admin, z.Agents) })
	g.Go(func() error { return w.control(ctx) })
	g.Go(func() error {
		defer end()
		return w.measure(ctx, &out)
	})
	return out, g.Wait()
}

func (w *world) say(format string, args ...any) {
	fmt.Fprintf(w.Out, "%s %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// control runs the controller until ctx ends.
func (w *world) control(ctx context.Context) error {
	cfg := rest.CopyConfig(w.cfg)
	cfg.Wrap(w.controller.wrap)
	clients, err := kube.FromConfig(cfg)
	if err != nil {
		return err
	}
	return controller.New(controller.Config{
		Clients: clients, Options: allocator.Options{Class: v1alpha1.LoadBalancerClass, DefaultClass: true},
		Log: w.log, Metrics: prometheus.NewRegistry(), Identity: "size", Namespace: namespace,
	}).Run(ctx)
}

// measure starts the agents and counts in one situation after the other.
func (w *world) measure(ctx context.Context, out *Result) (err error) {
	if out.Start, err = w.startAll(ctx); err != nil {
		return err
	}
	defer w.stopAll()
	for _, s := range []struct {
		name string
		do   func(context.Context) error
	}{{"at rest", w.rest}, {"a node is lost", w.lose}, {"agents are updated", w.update}} {
		w.say("%s", s.name)
		row, err := w.count(ctx, s.name, s.do)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		out.Rows = append(out.Rows, row)
		w.say("%s: %+v", s.name, row) // a run that ends early has said what it saw
		if err := w.quiet(ctx); err != nil {
			return err
		}
	}
	return nil
}

// count counts what is written and watched while do runs.
func (w *world) count(ctx context.Context, name string, do func(context.Context) error) (Row, error) {
	cpu, err := w.server.CPU()
	if err != nil {
		return Row{}, err
	}
	began, agents, control := time.Now(), w.all.read(), w.controller.read()
	if err := do(ctx); err != nil {
		return Row{}, err
	}
	after, err := w.server.CPU()
	agents, control = w.all.read().since(agents), w.controller.read().since(control)
	each := float64(w.Agents - 1)
	nodes := float64(agents.bytes("nodes", "configmaps"))
	return Row{
		Name: name, Took: time.Since(began), Agents: agents.writes, Controller: control.writes, CPU: after - cpu,
		WatchedNodes: nodes / each, Other: (float64(agents.bytes()) - nodes) / each,
	}, err
}

// startAll starts every agent, first the one that follows all Services.
func (w *world) startAll(ctx context.Context) (Start, error) {
	began := time.Now()
	for i := range w.Agents {
		a, err := w.agent(i)
		if err != nil {
			return Start{}, err
		}
		w.gossip.agents = append(w.gossip.agents, a)
	}
	w.say("starting agents")
	first := w.gossip.agents[full]
	first.start(ctx)
	if err := until(ctx, startsWithin, first.store.Synced); err != nil {
		return Start{}, fmt.Errorf("the first agent: %w", err)
	}
	read := w.full.read()
	const together = 16
	for i := 1; i < w.Agents; i += together {
		batch := w.gossip.agents[i:min(i+together, w.Agents)]
		for _, a := range batch {
			a.start(ctx)
		}
		for _, a := range batch {
			if err := until(ctx, startsWithin, a.store.Synced); err != nil {
				return Start{}, fmt.Errorf("agent %s: %w", a.name, err)
			}
		}
	}
	w.say("all agents have started")
	err := w.quiet(ctx)
	return Start{Bytes: read.listed + read.bytes(), All: time.Since(began)}, err
}

// agent makes the agent of node i.
func (w *world) agent(i int) (*agent, error) {
	if i == full {
		return newAgent(i, w.cfg, w.gossip, w.log, w.full.wrap)
	}
	return newAgent(i, w.cfg, w.gossip, w.log, onlyServed, w.all.wrap)
}

func (w *world) stopAll() {
	for _, a := range w.gossip.agents {
		if a.stop != nil {
			a.stop()
		}
	}
}

// quiet waits until fairlead has written nothing but the controller's Lease for five
// seconds.
func (w *world) quiet(ctx context.Context) error {
	deadline := time.Now().Add(3 * time.Minute)
	for {
		agents, control := w.all.read().writes, w.controller.read().writes
		if err := sleep(ctx, 5*time.Second); err != nil {
			return err
		}
		if w.all.read().writes == agents && w.controller.read().writes-control <= 4 || time.Now().After(deadline) {
			return nil
		}
	}
}

func (w *world) rest(ctx context.Context) error { return sleep(ctx, w.Rest) }

// lose has one node lost: its agent ends, the others notice by gossip, and the control
// plane some time later.
func (w *world) lose(ctx context.Context) error {
	a := w.gossip.agents[lost]
	a.stop()
	a.stop = nil
	w.gossip.judge(lost, announcer.NodeGone)
	if err := sleep(ctx, w.Lost/2); err != nil {
		return err
	}
	if err := lose(ctx, w.admin, lost, w.Agents); err != nil {
		return err
	}
	return sleep(ctx, w.Lost/2)
}

// update restarts agents one after the other. Each says that it restarts, and is back
// when it has read the cluster.
func (w *world) update(ctx context.Context) error {
	for i := 1; i <= w.Restarts; i++ {
		n := (lost + i) % w.Agents
		if n == lost || n == full {
			continue
		}
		w.gossip.judge(n, announcer.AgentGone)
		w.gossip.agents[n].stop()
		a, err := w.agent(n)
		if err != nil {
			return err
		}
		a.version = fmt.Sprint("v", i)
		w.gossip.mu.Lock()
		w.gossip.agents[n] = a
		w.gossip.mu.Unlock()
		if err := sleep(ctx, w.Pause); err != nil {
			return err
		}
		a.start(ctx)
		if err := until(ctx, startsWithin, a.store.Synced); err != nil {
			return err
		}
		w.gossip.judge(n, announcer.Alive)
	}
	return sleep(ctx, 5*time.Second)
}

// until waits for done.
func until(ctx context.Context, limit time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !done() {
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// Renewals returns how many NodeStates so many agents write a second although nothing
// changed: none of them falls into a measurement that is shorter than ten minutes.
func Renewals(agents int) float64 {
	return float64(agents) / (snapshot.RenewEvery * 5 / 4).Seconds()
}
