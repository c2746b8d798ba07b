// Package agent is what runs on every node: it programs the engine, holds the
// VIPs that the node was elected for, and says so in the node's NodeState.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/traffic/sample"
	"github.com/fairlead/fairlead/nodeport"
	"github.com/fairlead/fairlead/nodeport/health"
	"github.com/fairlead/fairlead/nodeport/socket"
	"github.com/fairlead/fairlead/proxy"
)

// Config is what an Agent is made of.
type Config struct {
	Node      string
	Namespace string // of the Secret with the agents' keys, and of DaemonSet
	DaemonSet string // the agents'; "": not known, every stop is a restart
	Version   string
	StateDir  string // where the last Snapshot is kept; "": nowhere
	Clients   *kube.Clients
	Dataplane proxy.Dataplane
	Engine    string // the Dataplane's name
	// Accelerator is what of the Dataplane may be off; nil if there is none.
	Accelerator Accelerator
	Log         *slog.Logger
	Metrics     prometheus.Registerer
	// NodePortAddresses are the CIDRs in which node ports answer; none means the
	// node's primary addresses.
	NodePortAddresses []netip.Prefix
	Options           proxy.Options
	Mode              Mode
	Force             bool   // forward beside another proxy
	OtherHealth       string // URL of the other proxy's /healthz
	SysctlDir         string // /proc/sys
	MembersPort       uint16 // where agents speak with each other, TCP and UDP
	CleanOnRemoval    bool   // a stop once DaemonSet was deleted takes everything out
	CountBytes        bool   // let the kernel count the bytes of connections
}

// Agent is one node's agent. New starts nothing.
type Agent struct {
	Config
	store     *kube.Store
	loop      *reconcile.Loop
	report    *reconcile.Loop
	keep      *reconcile.Loop
	holder    *l2.Holder
	compiler  proxy.Compiler
	decider   announcer.Decider
	alive     alive
	gossip    *gossip // is alive
	handover  announcer.Handover
	returns   uint64 // View.Returns at the last step
	metrics   *metrics
	health    health.Proxy
	ports     *ports
	routes    *routes
	proxy     Proxy  // who forwards
	beside    beside // of the proxy that forwards instead of us
	sysctls   sysctls
	settings  *reconcile.Loop // of sysctls
	traffic   *sample.Handler
	saved     *saved    // what the last agent kept, until the cluster has been listed
	started   time.Time // of Run
	asked     time.Time // since when the API server owes an answer
	fromSaved bool      // saved is being acted on
	reported  reported  // the report loop's alone

	removed atomic.Bool                               // fairlead is being removed
	slowed  atomic.Bool                               // the next agent is to be without the Accelerator
	pods    atomic.Pointer[cache.SharedIndexInformer] // this node's; nil if nobody asks

	mu    sync.Mutex
	links link.State
	state state // what the last step left
}

// state is what the agent says of itself.
type state struct {
	inSync    bool
	message   string
	ready     map[netip.Addr]bool // VIPs that the engine holds
	view      announcer.View
	announce  announcer.Plan
	leaving   []announcer.VIP // held until their next owners can take them
	held      []l2.Claim
	bgp       bgp.Plan
	services  int
	endpoints int
}

// New makes an Agent.
func New(cfg Config) (*Agent, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	a := &Agent{Config: cfg, loop: reconcile.New("agent", cfg.Log), report: reconcile.New("nodestate", cfg.Log), metrics: newMetrics(cfg.Metrics)}
	a.report.Resync, a.report.Coalesce = renewEvery, 200*time.Millisecond
	a.keep = reconcile.New("snapshot", cfg.Log)
	a.keep.Resync, a.keep.Coalesce = 0, saveEvery
	a.holder = l2.New(handle, cfg.Log)
	a.holder.Metrics = l2.NewMetrics(cfg.Metrics)
	a.holder.Changed = func() {
		a.loop.Wake()
		a.report.Wake()
	}
	a.store = kube.NewStore(cfg.Clients, a.changed)
	a.gossip = newGossip(cfg, a.loop.Wake)
	a.alive, a.holder.Sure = a.gossip, a.gossip.Fresh
	a.ports = &ports{
		node: cfg.Node, cidrs: cfg.NodePortAddresses, sockets: socket.Read, changed: a.report.Wake, log: cfg.Log,
		loop: reconcile.New("node ports", cfg.Log), servers: health.NewServers(&a.health, cfg.Log),
	}
	a.routes = newRoutes(cfg, a.loop.Wake, a.report.Wake, a.removed.Load)
	a.beside.client.Timeout = time.Second
	a.traffic = &sample.Handler{Node: cfg.Node, VIPs: a.vips, Flows: sample.Flows, Counts: a.countsBytes}
	a.settings = reconcile.New("sysctls", cfg.Log)
	a.settings.Resync = 10 * time.Second
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(a.accelerationMetrics()...)
	}
	return a, nil
}

// changed is called after every change of the cluster or of a link.
func (a *Agent) changed() {
	a.health.Queued(time.Now())
	a.metrics.queued.SetToCurrentTime()
	a.loop.Wake()
	a.keep.Wake()
}

// Run works until ctx ends, and then leaves everything in the kernel as it is:
// a stop is a restart, unless fairlead is being removed. VIPs expire by
// themselves if none follows.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.Dataplane.Probe(ctx); err != nil {
		if a.proxy == Fairlead {
			return fmt.Errorf("this node cannot forward: %w", err)
		}
		a.beside.cleaned = true // nor can it hold anything of ours
	}
	if err := a.readLinks(); err != nil {
		return err
	}
	a.started = time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var failed error
	wg.Go(func() {
		if failed = a.store.Run(ctx); failed != nil {
			cancel()
		}
	})
	wg.Go(func() {
		if err := a.followKeys(ctx); err != nil {
			a.Log.Error("the agents' keys cannot be followed", "error", err)
		}
	})
	wg.Go(func() {
		if err := a.followDaemonSet(ctx); err != nil {
			a.Log.Error("the agents' DaemonSet cannot be followed", "error", err)
		}
	})
	wg.Go(func() {
		if err := a.followPods(ctx); err != nil {
			a.Log.Error("this node's pods cannot be followed", "error", err)
		}
	})
	wg.Go(func() { a.gossip.Run(ctx) })
	wg.Go(func() { a.holder.Run(ctx) })
	wg.Go(func() { a.watchLinks(ctx) })
	wg.Go(func() { a.report.Run(ctx, a.writeState) })
	wg.Go(func() { a.keep.Run(ctx, a.save) })
	wg.Go(func() { a.ports.Run(ctx) })
	wg.Go(func() { a.routes.Run(ctx) })
	wg.Go(func() { a.settings.Run(ctx, a.setSysctls) })
	a.loop.Resync = l2.Renew
	a.loop.Run(ctx, a.step)
	wg.Wait()
	return errors.Join(failed, a.goodbye(ctx))
}

func (a *Agent) readLinks() error {
	st, err := link.Read()
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.links = st
	return nil
}

// watchLinks keeps a.links current.
func (a *Agent) watchLinks(ctx context.Context) {
	again := reconcile.New("links", a.Log)
	again.Resync = time.Minute
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := link.Watch(ctx, again.Wake); err != nil {
				a.Log.Warn("link events were lost; reading anew", "error", err)
			}
			again.Wake()
		}
	})
	again.Run(ctx, func(context.Context) error {
		if err := a.readLinks(); err != nil {
			return err
		}
		a.loop.Wake()
		a.report.Wake()
		return nil
	})
}

// step brings kernel and network up to the current Snapshot: withdraw what is
// not to be announced any more, program, then announce what that makes possible.
// While it is not sure who is alive, it leaves what is announced as it is, and its
// lease to run out.
func (a *Agent) step(ctx context.Context) error {
	began := time.Now()
	s := a.snapshot(began)
	if s == nil {
		return nil
	}
	a.mu.Lock()
	links, was := a.links, a.state
	a.mu.Unlock()

	a.gossip.Follow(s)
	view, sure := a.alive.View()
	a.health.SetEligible(nodeport.Eligible(s.Node(a.Node)))
	addrs := nodeport.Resolve(s.Node(a.Node), links.Addrs, a.NodePortAddresses)
	in := announcer.Input{
		Snapshot: s, Node: a.Node, Ready: was.ready, Alive: view.Candidates(), Others: reports(view),
		Self: snapshot.Electable{Node: a.Node, InSync: true, Draining: a.drains(s.Node(a.Node)), Links: links.Links},
	}
	if sure {
		a.prepare(in, view, was)
	}
	a.routes.withdraw(in)
	now, err := a.forward(ctx, s, addrs, view.Quarantined())
	in.Ready, in.Self.InSync, now.view = now.ready, now.inSync, view
	if now.ready != nil {
		a.alive.Say(announcer.Report{Electable: in.Self})
	}
	now.announce, now.leaving, now.held = was.announce, was.leaving, was.held
	var errHold error
	if fresh, sure := a.alive.View(); sure { // the process may have stood still since
		now.view = fresh
		errHold = a.announce(in, was, &now)
	}
	now.bgp = a.routes.announce(in)
	a.metrics.lost(s, view)
	a.finish(now, began, err)
	return errors.Join(err, errHold)
}

// forward sees to it that Services are forwarded, by the engine or by whoever
// does it instead.
func (a *Agent) forward(ctx context.Context, s *snapshot.Snapshot, addrs []netip.Addr, gone []string) (state, error) {
	if a.proxy != Fairlead {
		return a.leave(ctx, s)
	}
	opt := a.Options
	opt.Gone = gone
	a.exclude(s)
	now, err := a.program(ctx, a.compiler.Compile(s, a.Node, addrs, opt))
	if err == nil {
		a.ports.Follow(s, addrs)
	}
	return now, err
}

// program gives the engine its Table. When that fails the kernel holds what it
// held before, and so do we.
func (a *Agent) program(ctx context.Context, table *proxy.Table) (state, error) {
	change, err := a.Dataplane.Sync(ctx, table)
	a.metrics.synced(change, err)
	if err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		now := a.state
		now.inSync, now.message = false, err.Error()
		return now, fmt.Errorf("program: %w", err)
	}
	if !change.Again.IsZero() {
		time.AfterFunc(time.Until(change.Again), a.loop.Wake)
	}
	a.metrics.programmed(table, time.Now())
	if change.Repaired {
		a.Log.Warn("the engine's kernel state was changed by somebody else; repaired", "added", change.Added, "deleted", change.Deleted, "rebuilt", change.Rebuilt)
	}
	now := state{inSync: true, ready: map[netip.Addr]bool{}}
	services := map[snapshot.Ref]bool{}
	for _, f := range table.Frontends {
		services[f.Service] = true
		switch f.Kind {
		case proxy.VIP:
			now.ready[f.Addr] = true
		case proxy.ClusterIP:
			now.endpoints += len(f.Cluster)
		}
	}
	now.services = len(services)
	return now, nil
}

// finish keeps the new state and tells those who wait for it.
func (a *Agent) finish(now state, began time.Time, err error) {
	a.mu.Lock()
	same := slices.Equal(a.state.held, now.held)
	a.state = now
	a.mu.Unlock()
	if !same || !a.sysctls.looked() {
		a.settings.Wake()
	}
	if err == nil {
		at := time.Now()
		a.health.Synced(snapshot.IPv4, began, at)
		a.health.Synced(snapshot.IPv6, began, at)
	}
	a.metrics.took(time.Since(began), now)
	a.report.Wake()
}
