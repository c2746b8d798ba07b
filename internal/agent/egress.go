package agent

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/egress"
	"github.com/fairlead/fairlead/internal/egress/kernel"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// Egress makes true how connections of pods leave the cluster: *kernel.Kernel.
type Egress interface {
	Sync(egress.State) error
	Counts() (kernel.Counts, error)
	Cleanup() error
}

// leaving has the connections of pods leave with the addresses of their Services. Its loop
// is apart from the engine's, because it acts on tables and rules of its own.
type leaving struct {
	egress Egress // nil: nothing leaves in this way
	loop   *reconcile.Loop
	told   func([]snapshot.Problem) // is called with what State says

	mu    sync.Mutex
	in    *egress.Inputs // nil: not known yet
	state egress.State

	// The loop's alone.
	asking snapshot.Picked // Services that ask for it
	synced time.Time       // when the kernel was last given state, without an error
}

func newLeaving(cfg *Config) *leaving {
	l := &leaving{egress: cfg.Egress, loop: reconcile.New("egress", cfg.Log), told: func([]snapshot.Problem) {}}
	l.asking.Pick = (*snapshot.Service).Leaves
	l.loop.Resync = 10 * time.Second // somebody may have taken the rules out
	return l
}

// Follow makes plan, for in, what is acted on. While it is not sure who is alive, what is
// there stays.
func (l *leaving) Follow(in node.Inputs, plan node.Plan, known proxy.Known, services []netip.Prefix) {
	if l.egress == nil || !plan.Program.Sure || !in.Engine.Known {
		return
	}
	now := &egress.Inputs{
		Node: in.Node, Snapshot: in.Snapshot, Links: in.Links, View: in.View, Elected: plan.Program.Elected,
		Own: in.Own, Pods: slices.Clone(known.CIDRs), Services: services,
	}
	for _, addrs := range [][]netip.Addr{known.Routes, known.Endpoints} {
		for _, a := range addrs {
			now.Pods = append(now.Pods, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	l.mu.Lock()
	l.in = now
	l.mu.Unlock()
	l.loop.Wake()
}

// Run works until ctx ends, and leaves the rules: a stop is a restart.
func (l *leaving) Run(ctx context.Context) {
	if l.egress != nil {
		l.loop.Run(ctx, l.step)
	}
}

func (l *leaving) step(context.Context) error {
	l.mu.Lock()
	in := l.in
	l.mu.Unlock()
	if in == nil {
		return nil
	}
	var state egress.State
	var problems []snapshot.Problem
	// Most clusters ask for it nowhere, and change all the time.
	if len(l.asking.Of(in.Snapshot)) > 0 {
		state, problems = egress.Decide(*in)
	}
	l.told(problems)
	// Where one asks, somebody may have changed the kernel's copy.
	again := len(state.Pods) > 0 && time.Since(l.synced) >= l.loop.Resync
	if !l.synced.IsZero() && !again && reflect.DeepEqual(state, l.State()) {
		return nil
	}
	l.mu.Lock()
	l.state = state
	l.mu.Unlock()
	if err := l.egress.Sync(state); err != nil {
		l.synced = time.Time{}
		return err
	}
	l.synced = time.Now()
	return nil
}

// State returns what the last step decided.
func (l *leaving) State() egress.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}
