package agent

import (
	"context"
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
	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/internal/controlplane"
	"github.com/fairlead/fairlead/internal/controlplane/redirect"
	"github.com/fairlead/fairlead/internal/keyring"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// ControlPlaneConfig is what a ControlPlane is made of.
type ControlPlaneConfig struct {
	controlplane.Config
	Own         netip.Addr // this node's address among the members; invalid: it is found
	MembersPort uint16     // where the control-plane nodes speak with each other, TCP and UDP
	KeyFile     string     // with the gossip's keys, as package keyring has them
	StateDir    string     // where the members are kept; "": nowhere
	// Ask asks the kube-apiserver of the node at an address whether it lives.
	Ask func(own netip.Addr) func(context.Context) (controlplane.Answer, error)
	// Follow calls known with the addresses of the cluster's control-plane nodes, each time
	// that they change, until ctx ends; nil: the cluster is not asked.
	Follow  func(ctx context.Context, own netip.Addr, known func([]netip.Addr)) error
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// ControlPlane announces the API server's own address from a control-plane node. It needs
// no API server. It is the agent's parts with another engine: the kernel redirects the
// address to the node's own kube-apiserver.
type ControlPlane struct {
	cfg        ControlPlaneConfig
	own        netip.Addr
	links      links
	gossip     *gossip
	reach      *reach
	neighbours neighbours
	leases     *l2.Leases
	layer2     *layer2
	routes     *routes
	redirects  *redirects
	decision   decision
	memory     node.Memory
	keep       *reconcile.Loop // of what is kept in StateDir
	lastKeys   []byte

	mu      sync.Mutex
	fitness controlplane.Fitness
	members []netip.Addr // of the cluster; nil: not known
	met     bool
	stepped time.Time
	plan    node.State
	// conflicts has the MACs of other devices that have an address.
	conflicts map[netip.Addr]string
}

// NewControlPlane makes a ControlPlane. It fails while the node has no address to speak at,
// as before its links are up, and with keys that cannot be used.
func NewControlPlane(cfg ControlPlaneConfig) (*ControlPlane, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	keys, err := readKeys(cfg.KeyFile)
	if err != nil {
		return nil, err
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	c := newControlPlane(cfg)
	c.links = links{log: cfg.Log, changed: c.decision.loop.Wake}
	if err := c.links.read(); err != nil {
		return nil, err
	}
	if st := c.links.State(); !c.own.IsValid() {
		if c.own, err = cfg.Config.Own(st.Links, st.Addrs); err != nil {
			return nil, err
		}
	}
	if c.members, err = load(cfg.StateDir, membersFile, controlplane.ParseMembers); err != nil {
		cfg.Log.Warn("cannot use the saved members", "error", err)
	}
	c.assemble(l2.ControlPlane.Leases(handle, 0, cfg.Log))
	c.setKeys(keys)
	return c, nil
}

func newControlPlane(cfg ControlPlaneConfig) *ControlPlane {
	c := &ControlPlane{cfg: cfg, own: cfg.Own, decision: decision{loop: reconcile.New("control plane", cfg.Log)}, keep: reconcile.New("kept members", cfg.Log)}
	c.decision.loop.Resync = announcer.Renew
	return c
}

// ControlPlaneMetrics registers the metrics of a ControlPlane, for those who list them.
func ControlPlaneMetrics(reg prometheus.Registerer) {
	c := newControlPlane(ControlPlaneConfig{Log: slog.New(slog.DiscardHandler), Metrics: reg})
	c.assemble(l2.ControlPlane.Leases(nil, 0, c.cfg.Log))
}

// assemble makes the parts.
func (c *ControlPlane) assemble(leases *l2.Leases) {
	wake := c.decision.loop.Wake
	cfg := &Config{Node: controlplane.Node(c.own), MembersPort: c.cfg.MembersPort, StateDir: c.cfg.StateDir, Log: c.cfg.Log, Metrics: c.cfg.Metrics}
	c.leases = leases
	leases.Metrics = l2.NewMetrics(c.cfg.Metrics)
	c.gossip = newGossip(*cfg, wake)
	c.gossip.open = false // no gate keeps others from the port
	c.reach = newReach(cfg, c.gossip, func() []snapshot.Link { return c.links.State().Links }, wake)
	c.gossip.answers = c.reach.answers
	c.neighbours = neighbours{dir: cfg.StateDir, log: cfg.Log, changed: c.keep.Wake}
	c.neighbours.load(nil)
	c.layer2 = newLayer2(leases, cfg.Log, wake, func() {})
	leases.Changed = func() { c.layer2.Again(); wake() }
	leases.Sure, leases.HeardAt, leases.Carries = c.gossip.Fresh, c.reach.watcher.HeardAt, c.reach.watcher.Carries
	c.routes = newRoutes(cfg, wake, wake, func() {}, func() bool { return false })
	// The table of refused prefixes is the agent's, and what is announced here is held here.
	c.routes.unheld.refuse, c.routes.unheld.refused = func(_, _ []netip.Prefix) error { return nil }, func() ([]netip.Prefix, error) { return nil, nil }
	c.redirects = newRedirects(redirect.New(0), cfg.Log, wake)
	if c.cfg.Metrics != nil {
		c.cfg.Metrics.MustRegister(c.collectors()...)
	}
}

// Run works until ctx ends, and leaves everything in the kernel as it is: a stop is a
// restart. What is announced ends by itself when no ControlPlane follows.
func (c *ControlPlane) Run(ctx context.Context) error {
	c.cfg.Log.Info("the API server's address", "addresses", c.cfg.Addresses, "node", c.own, "members", c.world().Members)
	tasks := []func(context.Context){
		c.links.Run, c.gossip.Run, c.reach.watcher.Run, c.reach.Run, c.leases.Run, c.layer2.Run, c.redirects.Run, c.ask, c.follow, c.followKeyFile,
		func(ctx context.Context) { c.keep.Run(ctx, func(context.Context) error { return c.neighbours.Keep() }) },
		func(ctx context.Context) { c.decision.loop.Run(ctx, c.step) },
	}
	if len(c.cfg.BGP.Peers) > 0 {
		tasks = append(tasks, c.routes.Run)
	}
	var wg sync.WaitGroup
	for _, run := range tasks {
		wg.Go(func() { run(ctx) })
	}
	wg.Wait()
	return nil
}

// world is what is known now.
func (c *ControlPlane) world() controlplane.World {
	c.mu.Lock()
	defer c.mu.Unlock()
	return controlplane.World{Own: c.own, Members: slices.Concat(c.cfg.Members, c.members), Fit: c.fitness.Fit, Met: c.met}
}

// step decides what this node does now, and has it done.
func (c *ControlPlane) step(context.Context) error {
	c.mu.Lock()
	known := c.fitness.Known
	c.mu.Unlock()
	// What an earlier process left is answered for meanwhile.
	if !known {
		return nil
	}
	w := c.world()
	s := c.cfg.Snapshot(w)
	in := c.collect(s, w)
	var plan node.Plan
	plan, c.memory = node.Decide(in, c.memory)
	if plan.Report != nil {
		w.Tell(plan.Report)
	}
	c.decision.loop.At(plan.Wake)
	c.apply(in, w, plan)
	return nil
}

// collect is all that the decision depends on.
func (c *ControlPlane) collect(s *snapshot.Snapshot, w controlplane.World) node.Inputs {
	c.gossip.Follow(s)
	links := c.links.State()
	in := node.Inputs{
		Now: time.Now(), Node: controlplane.Node(c.own), Snapshot: s, Self: s.Node(controlplane.Node(c.own)), Own: links.Addrs,
		Links: c.decision.linksFor(links, s.Announcements), Passwords: c.cfg.Passwords(),
	}
	in.View, in.Sure = c.gossip.View()
	in.Reach = c.reach.known(in.View)
	in.MACs = c.neighbours.Learn(in.View, s)
	held, known := c.layer2.Held()
	in.Held, in.Sure = held, in.Sure && known
	in.Engine = node.Engine{Known: true, InSync: true, Ready: c.cfg.Ready(w, in.View, c.redirects.Held())}
	return in
}

// apply gives plan to those who carry it out.
func (c *ControlPlane) apply(in node.Inputs, w controlplane.World, plan node.Plan) {
	c.decision.plans++
	c.note(in, plan.State)
	if plan.Watch != nil {
		c.reach.watcher.Follow(*plan.Watch)
	}
	c.redirects.Give(c.redirected(in, w, plan.State))
	c.layer2.Give(c.decision.plans, plan, in.Links)
	c.routes.Give(c.decision.plans, plan)
	if plan.Report != nil {
		c.gossip.Say(*plan.Report)
	}
}

// redirected returns what the kernel is to redirect, in its order.
func (c *ControlPlane) redirected(in node.Inputs, w controlplane.World, st node.State) (out []redirect.Redirect) {
	for vip, at := range c.cfg.Redirects(w, c.links.State().Links, in, st) {
		out = append(out, redirect.Redirect{VIP: netip.AddrPortFrom(vip, c.cfg.Port), Node: at})
	}
	slices.SortFunc(out, redirect.Redirect.Compare)
	return out
}

// note keeps what is said of the decision, and logs what changed.
func (c *ControlPlane) note(in node.Inputs, st node.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stepped = time.Now()
	// From now on an address need not be probed before it is announced: the gossip says who has it.
	if !c.met && controlplane.Met(in.View) {
		c.met = true
		c.decision.loop.Wake()
	}
	for _, r := range st.Refused {
		was := slices.ContainsFunc(c.plan.Refused, func(o announcer.Refused) bool { return o.Addr == r.Addr && o.Owner == r.Owner && o.Reason == r.Reason })
		if !was {
			c.cfg.Log.Info("not announced by this node", "address", r.Addr, "owner", r.Owner, "reason", r.Reason, "message", r.Message)
		}
	}
	c.noteConflicts()
	c.plan = st
}

// noteConflicts logs which other devices have an address. c.mu is held.
func (c *ControlPlane) noteConflicts() {
	now := map[netip.Addr]string{}
	for _, f := range c.leases.Findings() {
		if f.Conflict == "" {
			continue
		}
		now[f.Addr] = f.Conflict
		if c.conflicts[f.Addr] != f.Conflict {
			c.cfg.Log.Warn("another device has the address: it is not announced", "address", f.Addr, "mac", f.Conflict)
		}
	}
	c.conflicts = now
}

// ask follows the node's kube-apiserver until ctx ends.
func (c *ControlPlane) ask(ctx context.Context) {
	question := c.cfg.Ask(c.own)
	for ctx.Err() == nil {
		answer, why := question(ctx)
		if ctx.Err() != nil {
			return
		}
		// When all servers fail together, as with etcd's quorum, the address is to stay where it is.
		holds := c.holds()
		c.mu.Lock()
		was := c.fitness
		c.fitness = was.Next(answer, holds, time.Now())
		now := c.fitness
		c.mu.Unlock()
		if was.Known != now.Known || was.Fit != now.Fit {
			c.cfg.Log.Info("this node's kube-apiserver", "fit", now.Fit, "error", why)
			c.decision.loop.Wake()
		}
		pause(ctx, controlplane.Pause(answer))
	}
}

// followEvery is how often what could not be followed is tried again, and the keys are read.
const followEvery = 5 * time.Second

// follow takes the members from the cluster, if it is asked, until ctx ends.
func (c *ControlPlane) follow(ctx context.Context) {
	for c.cfg.Follow != nil && ctx.Err() == nil {
		if err := c.cfg.Follow(ctx, c.own, c.setMembers); err != nil {
			c.cfg.Log.Debug("the cluster's control-plane nodes", "error", err)
		}
		pause(ctx, followEvery)
	}
}

// membersFile has the members of the cluster, in StateDir.
const membersFile = "members"

// setMembers takes in the control-plane nodes of the cluster. None at all is not believed:
// this node is one.
func (c *ControlPlane) setMembers(all []netip.Addr) {
	c.mu.Lock()
	same := len(all) == 0 || slices.Equal(all, c.members)
	if !same {
		c.members = all
	}
	c.mu.Unlock()
	if same {
		return
	}
	c.cfg.Log.Info("the cluster's control-plane nodes", "members", all)
	c.decision.loop.Wake()
	if err := save(c.cfg.StateDir, membersFile, controlplane.FormatMembers(all)); err != nil {
		c.cfg.Log.Error("cannot save the members", "error", err)
	}
}

// followKeyFile takes in other keys until ctx ends.
func (c *ControlPlane) followKeyFile(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, followEvery)
		keys, err := readKeys(c.cfg.KeyFile)
		switch {
		case err != nil:
			c.cfg.Log.Error("cannot read the keys: the known ones stay in use", "error", err)
		case string(keys.Format()) != string(c.lastKeys):
			c.setKeys(keys)
			c.cfg.Log.Info("other keys", "count", len(keys))
		}
	}
}

func (c *ControlPlane) setKeys(keys keyring.Keys) {
	c.lastKeys = keys.Format()
	c.gossip.SetKeys(keys)
	c.reach.watcher.SetKeys(keys)
}

// Alive returns an error if the last decision is too long ago.
func (c *ControlPlane) Alive() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if since := time.Since(c.stepped); !c.stepped.IsZero() && since > decideWithin {
		return fmt.Errorf("the last decision is %s ago", since.Round(time.Second))
	}
	return nil
}

// Ready returns an error until this node has decided for the first time.
func (c *ControlPlane) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stepped.IsZero() {
		return errors.New("nothing is known of this node's kube-apiserver yet")
	}
	return nil
}

// collectors are the metrics of the control plane's addresses.
func (c *ControlPlane) collectors() []prometheus.Collector {
	gauge := func(name, help string, value func() bool) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			if value() {
				return 1
			}
			return 0
		})
	}
	return []prometheus.Collector{
		gauge("fairlead_control_plane_fit", "Whether this node's kube-apiserver can serve the API server's address.", func() bool { return c.world().Fit }),
		gauge("fairlead_control_plane_owner", "Whether this node answers for the API server's address.", c.holds),
	}
}

// holds reports whether this node answers for an address, or announces one to routers.
func (c *ControlPlane) holds() bool {
	held, _ := c.layer2.Held()
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(held)+len(c.plan.Routed) > 0
}

// CleanupControlPlane takes what any ControlPlane left out of the kernel of this network
// namespace.
func CleanupControlPlane() error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer handle.Close()
	_, err = l2.ControlPlane.Cleanup(handle, 0)
	return errors.Join(err, redirect.New(0).Cleanup())
}
