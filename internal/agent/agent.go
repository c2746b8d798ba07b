// Package agent is what runs on every node: it programs the engine, holds the
// VIPs that the node was elected for, and says so in the node's NodeState.
package agent

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/internal/dhcp/client"
	"github.com/fairlead/fairlead/internal/keyring"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/marks"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/proxies"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport"
	"github.com/fairlead/fairlead/nodeport/health"
	"github.com/fairlead/fairlead/nodeport/relay"
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
	// Serves reports whether the Dataplane serves a family, after a Probe; nil: it does.
	Serves func(snapshot.Family) bool
	// Accelerator is what of the Dataplane may be off; nil if there is none.
	Accelerator Accelerator
	Log         *slog.Logger
	Metrics     prometheus.Registerer
	// NodePortAddresses are the CIDRs in which node ports answer; none means the
	// node's primary addresses.
	NodePortAddresses []netip.Prefix
	Localhost         bool // TCP node ports answer at the loopback addresses too
	Options           proxy.Options
	Mode              Mode
	Force             bool   // forward beside another proxy
	OtherHealth       string // URL of the other proxy's /healthz
	// Traces returns what other proxies leave on the node; nil: nobody looks.
	Traces         func() proxies.Facts
	SysctlDir      string // /proc/sys
	MembersPort    uint16 // where agents speak with each other, TCP and UDP
	CleanOnRemoval bool   // a stop once DaemonSet was deleted takes everything out
	CountBytes     bool   // let the kernel count the bytes of connections
	Assist         Assist // gives connections helpers; nil: nobody does
	// Links holds the numbers of links in marks. Answers then leave by the link on which
	// their connection came in. The zero Field: they leave as the node's routes say.
	Links  marks.Field
	Gate   Gate // keeps who may reach MembersPort, BFD and BGP; nil: everybody may
	Direct Direct
	Egress Egress // has pods leave with addresses of Services; nil: none does
	Strays Strays // passes ICMP errors on to other nodes; nil: nobody does

	reportKey ed25519.PrivateKey // signs what the agent reports to the others; nil: nothing does
}

// Agent is one node's agent. New starts nothing.
//
// It collects the inputs (cluster, links, gossip, removal), has decision decide, and gives
// the Plan to layer2, routes and engine, each in a loop of its own. report writes the
// NodeState.
type Agent struct {
	cfg        *Config
	cluster    cluster
	links      links
	gossip     membership
	signers    *signers
	reach      *reach
	neighbours neighbours
	removal    removal
	decision   decision
	layer2     *layer2
	gaps       gaps
	routes     *routes
	engine     *engine
	ports      *ports
	gate       *gatekeeper
	leaving    *leaving
	straying   *straying
	dhcp       *client.Keeper
	sysctls    sysctls
	others     others
	yield      context.CancelFunc // closes the ports of a proxy
	ways       *ways
	report     reporter
	health     health.Proxy
	metrics    *metrics
}

// decision is what decides, and what it decided last.
type decision struct {
	loop    *reconcile.Loop // of step
	decider node.Decider
	links   []snapshot.Link // see linksFor
	self    *snapshot.Node  // as it was last known: a Node object may be deleted while its node runs

	mu    sync.Mutex
	plans uint64 // so far
	state state  // what the last step left
}

// state is what the agent says of itself.
type state struct {
	engineState
	self   *snapshot.Node // nil: it is not known yet
	view   announcer.View
	plan   node.State
	routes bgp.Plan
	held   []announcer.Claim
	named  []*snapshot.Announcement // which may name links without an address
}

// New makes an Agent. It fails if this process cannot have a netlink socket.
func New(cfg Config) (*Agent, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	if cfg.reportKey, err = reportKey(cfg.StateDir); err != nil {
		cfg.Log.Error("cannot keep the key that this node signs its reports with", "error", err)
	}
	leases := l2.New(handle, 0, cfg.Log)
	leases.Metrics = l2.NewMetrics(cfg.Metrics)
	a := assemble(&cfg, leases)
	leases.Changed = func() { // a claim that waited may be held, or there are findings
		a.layer2.Again()
		a.report.loop.Wake()
	}
	leases.Sure, leases.HeardAt, leases.Carries = a.gossip.Fresh, a.reach.watcher.HeardAt, a.reach.watcher.Carries
	a.report.leases = leases
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(a.cfg.accelerationMetrics()...)
	}
	return a, nil
}

// assemble makes an Agent that holds addresses by h.
func assemble(cfg *Config, leases leaseKeeper) *Agent {
	a := &Agent{cfg: cfg, decision: decision{loop: reconcile.New("agent", cfg.Log)}, metrics: newMetrics(cfg.Metrics)}
	a.decision.loop.Resync = announcer.Renew
	a.report = newReporter(cfg)
	a.cluster = newCluster(cfg, a.metrics, a.changed)
	a.ways = newWays(cfg.Links, cfg.Log, func() []link.Way { return a.links.State().Ways }, func() {
		a.engine.loop.Wake()
		a.report.loop.Wake()
		a.sysctls.loop.Wake()
	})
	var addrs []netip.Addr
	a.links = links{log: cfg.Log, changed: func() {
		a.wake()
		a.ways.loop.Wake()
		// The first address of a family has it forwarded. A look at the settings reads all routes,
		// which change all the time where there are many.
		if now := a.links.State().Addrs; !slices.Equal(addrs, now) {
			addrs = now
			a.sysctls.loop.Wake()
		}
	}}
	g := newGossip(*cfg, a.decision.loop.Wake)
	a.gossip = g
	a.reach = newReach(cfg, g, func() []snapshot.Link { return a.links.State().Links }, a.decision.loop.Wake)
	a.signers = newSigners(cfg, func(all keyring.Signers) {
		g.SetSigners(all)
		a.reach.watcher.SetSigners(all)
	})
	g.doubted = a.signers.Doubt
	g.answers = a.reach.answers
	a.neighbours = neighbours{macs: map[string][]string{}, dir: cfg.StateDir, log: cfg.Log, changed: a.cluster.keep.Wake}
	a.removal = removal{cfg: cfg, changed: a.decision.loop.Wake}
	a.engine = newEngine(cfg, a.metrics, &a.health, a.wake)
	a.engine.ways = a.ways.Numbered
	a.engine.through = func() uint64 { return min(a.layer2.Through(), a.routes.Through()) }
	a.layer2 = newLayer2(leases, cfg.Log, a.heldOthers, a.engine.loop.Wake)
	a.routes = newRoutes(cfg, a.decision.loop.Wake, a.report.loop.Wake, a.engine.loop.Wake, a.removal.removed.Load)
	a.ports = &ports{
		index: nodeport.NewIndex(cfg.Node), cidrs: cfg.NodePortAddresses, sockets: socket.Read, changed: a.report.loop.Wake, log: cfg.Log,
		loop: reconcile.New("node ports", cfg.Log), servers: health.NewServers(&a.health, cfg.Log),
	}
	if cfg.Localhost {
		a.ports.relays = relay.New(cfg.Log)
	}
	a.others.traces, a.engine.other.name = cfg.Traces, a.others.name
	a.engine.follow, a.engine.exceeded = a.ports.Follow, a.ports.Exceeded
	a.gate = newGatekeeper(cfg)
	a.dhcp = client.New(cfg.Log)
	a.dhcp.Changed = a.report.loop.Wake
	a.straying = newStraying(cfg)
	a.leaving = newLeaving(cfg)
	a.leaving.told = a.ports.Leaving
	a.metrics.egress.Follow(a.leaving)
	a.sysctls.loop = reconcile.New("sysctls", cfg.Log)
	a.sysctls.loop.Resync = 10 * time.Second
	return a
}

// changed is called after every change of the cluster.
func (a *Agent) changed() {
	a.health.Queued(time.Now())
	a.metrics.queued.SetToCurrentTime()
	a.decision.loop.Wake()
	a.cluster.keep.Wake()
}

// wake has everything decided and reported again.
func (a *Agent) wake() {
	a.decision.loop.Wake()
	a.report.loop.Wake()
}

// heldOthers is called when layer 2 holds other addresses.
func (a *Agent) heldOthers() {
	held, _ := a.layer2.Held()
	if n, gap := a.gaps.held(held, time.Now()); n > 0 {
		a.cfg.Log.Info("took addresses of a node that died", "addresses", n, "gap", gap.Round(time.Millisecond))
	}
	a.wake()
	a.sysctls.loop.Wake() // some are needed on the links of addresses
}

// task is one of the things that an agent does at the same time.
type task struct {
	name  string // what cannot be done if it fails
	run   func(context.Context) error
	vital bool // the agent ends if it fails
}

// forever is a task that ends with ctx and cannot fail.
func forever(run func(context.Context)) func(context.Context) error {
	return func(ctx context.Context) error {
		run(ctx)
		return nil
	}
}

// tasks are all that Run starts. A task that fails is said, and the others go on.
func (a *Agent) tasks() []task {
	return []task{
		// What there is to know.
		{name: "follow the cluster", run: a.cluster.Run, vital: true},
		{name: "follow the node's links", run: forever(a.links.Run)},
		{name: "follow the agents' keys", run: a.followKeys},
		{name: "speak with the other agents", run: forever(a.gossip.Run)},
		{name: "learn the keys of nodes", run: forever(func(ctx context.Context) { a.signers.loop.Run(ctx, a.signers.step) })},
		{name: "ask the kernels of other nodes", run: forever(a.reach.watcher.Run)},
		{name: "tell who does not answer", run: forever(a.reach.Run)},
		{name: "follow the agents' DaemonSet, which is deleted when fairlead is removed", run: a.removal.Run},
		{name: "follow this node's pods that opt out of acceleration", run: a.engine.pods.Run},
		// The decision.
		{name: "decide", run: forever(func(ctx context.Context) { a.decision.loop.Run(ctx, a.step) })},
		// Those who carry it out.
		{name: "answer ARP and NDP", run: forever(a.report.leases.Run)},
		{name: "hold addresses on links", run: forever(a.layer2.Run)},
		{name: "hold BGP sessions", run: forever(a.routes.Run)},
		{name: "program the engine", run: forever(a.engine.Run)},
		{name: "have answers leave as they came", run: forever(a.ways.Run)},
		{name: "open health check ports", run: forever(a.ports.Run)},
		{name: "keep others from the agent's ports", run: forever(a.gate.Run)},
		{name: "pass ICMP errors on to other nodes", run: forever(a.straying.Run)},
		{name: "have pods leave with addresses of Services", run: forever(a.leaving.Run)},
		{name: "keep DHCP leases", run: forever(a.dhcp.Run)},
		{name: "set kernel settings", run: forever(func(ctx context.Context) { a.sysctls.loop.Run(ctx, a.setSysctls) })},
		// What others read.
		{name: "write the NodeState", run: forever(func(ctx context.Context) { a.report.loop.Run(ctx, a.writeState) })},
		{name: "save the cluster for the next start", run: forever(func(ctx context.Context) { a.cluster.keep.Run(ctx, a.save) })},
	}
}

// Run works until ctx ends, and then leaves everything in the kernel as it is:
// a stop is a restart, unless fairlead is being removed. VIPs expire by
// themselves if no agent follows.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.prepare(ctx); err != nil {
		return err
	}
	a.cluster.started = time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, t := range a.tasks() {
		wg.Go(func() {
			err := t.run(ctx)
			if err == nil {
				return
			}
			a.cfg.Log.Error("cannot "+t.name, "error", err)
			if t.vital {
				cancel(fmt.Errorf("cannot %s: %w", t.name, err))
			}
		})
	}
	wg.Wait()
	failed := context.Cause(ctx)
	if errors.Is(failed, context.Canceled) {
		failed = nil // told to stop
	}
	return errors.Join(failed, a.goodbye(ctx))
}

// prepare does what has to come before any announcement.
func (a *Agent) prepare(ctx context.Context) error {
	if err := a.cfg.Dataplane.Probe(ctx); err != nil {
		if a.engine.proxy == Fairlead {
			return fmt.Errorf("this node cannot forward: %w", err)
		}
		a.engine.other.unable = true
		a.cfg.Log.Warn("cannot refuse the ports of VIPs that no Service has", "error", err)
	}
	if err := a.links.read(); err != nil {
		return err
	}
	// A node that has just booted forwards nothing yet. The first announcement must not come
	// before the kernel forwards, or before it is known that it does not.
	return a.setSysctls(ctx)
}
