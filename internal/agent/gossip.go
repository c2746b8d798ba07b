package agent

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/members"
	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/keyring"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// membership is how an agent learns which nodes are alive: by gossip.
type membership interface {
	Run(ctx context.Context)
	SetKeys(keys keyring.Keys)
	// Follow takes the nodes' addresses from s.
	Follow(s *snapshot.Snapshot)
	// Fresh reports whether the last View is still of now.
	Fresh() bool
	// SetLost takes in which nodes do not answer on the link of their agents, and whether
	// others say that of this one.
	SetLost(nodes map[string]bool, self bool)
	// Say tells the others how this node is.
	Say(announcer.Report)
	// View returns what this node holds of all. It is not to be acted on unless ok:
	// before the agents have met, and after this process stood still.
	View() (v announcer.View, ok bool)
}

// meetFor is how long an agent waits for what the others know of it before it acts
// on a View in which it may not be elected: they may remember that it just
// restarted.
const meetFor = announcer.MeetFor + 2*time.Second

// gossip takes part in members as soon as all is known that it takes: the keys,
// the addresses, and how this node is.
type gossip struct {
	node    string
	port    uint16
	open    bool // members.Config.Open
	key     ed25519.PrivateKey
	changed func()
	answers func(node string) bool // members.Config.Answers
	doubted func(node string)      // members.Config.Doubted
	log     *slog.Logger
	metrics prometheus.Registerer
	loop    *reconcile.Loop

	places atomic.Pointer[members.Places] // the others'
	nodes  []*snapshot.Node               // that Follow was given last

	mu      sync.Mutex
	keys    keyring.Keys
	signers keyring.Signers
	bind    netip.AddrPort
	said    *announcer.Report
	running *members.Members
	began   time.Time // of running
	stop    func()    // ends running
}

func newGossip(cfg Config, changed func()) *gossip {
	g := &gossip{node: cfg.Node, port: cfg.MembersPort, open: cfg.Gate == nil, key: cfg.reportKey, changed: changed, log: cfg.Log, metrics: cfg.Metrics, loop: reconcile.New("members", cfg.Log)}
	g.loop.Resync = 0
	return g
}

// SetKeys makes keys those of the gossip.
func (g *gossip) SetKeys(keys keyring.Keys) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keys = keys
	if g.running == nil {
		g.loop.Wake()
	} else if err := g.running.SetKeys(keys); err != nil {
		g.log.Error("the agents' keys", "error", err)
	}
}

// SetSigners takes in the keys that nodes sign their reports with.
func (g *gossip) SetSigners(signers keyring.Signers) {
	g.mu.Lock()
	g.signers = signers
	running := g.running
	g.mu.Unlock()
	// Without the lock: it may check the last report of every node, and View does not wait.
	if running != nil {
		running.SetSigners(signers)
	}
}

// Follow takes the nodes' addresses from s. While it does not know this node's,
// they stay what they were.
func (g *gossip) Follow(s *snapshot.Snapshot) {
	if g.nodes != nil && diff.Same(g.nodes, s.Nodes) {
		return
	}
	g.nodes = s.Nodes
	bind, others := gossipAddrs(s, g.node, g.port)
	if !bind.IsValid() {
		return
	}
	g.places.Store(members.NewPlaces(others))
	g.mu.Lock()
	defer g.mu.Unlock()
	if bind == g.bind {
		return
	}
	g.bind = bind
	if g.stop != nil {
		g.stop() // and start over
	}
	g.loop.Wake()
}

// gossipAddrs returns where the agent of a node speaks, the node's first address, and
// where those of the others do, as far as they have an address of that family.
func gossipAddrs(s *snapshot.Snapshot, node string, port uint16) (own netip.AddrPort, others map[string]netip.AddrPort) {
	n := s.Node(node)
	if n == nil || len(n.InternalIPs) == 0 {
		return own, nil
	}
	// Where nodes list their families in different orders, the first address of each would part them.
	own, others = netip.AddrPortFrom(n.InternalIPs[0], port), make(map[string]netip.AddrPort, len(s.Nodes))
	for _, other := range s.Nodes {
		same := func(ip netip.Addr) bool { return snapshot.FamilyOf(ip) == snapshot.FamilyOf(own.Addr()) }
		if i := slices.IndexFunc(other.InternalIPs, same); i >= 0 && other.Name != node {
			others[other.Name] = netip.AddrPortFrom(other.InternalIPs[i], port)
		}
	}
	return own, others
}

// Say implements membership.
func (g *gossip) Say(r announcer.Report) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.said = &r
	if g.running == nil {
		g.loop.Wake()
		return
	}
	g.running.Say(r)
}

// SetLost implements membership.
func (g *gossip) SetLost(nodes map[string]bool, self bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running != nil {
		g.running.SetLost(nodes, self)
	}
}

// Fresh reports whether the last View is still of now.
func (g *gossip) Fresh() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running != nil && g.running.Fresh()
}

// View implements membership.
func (g *gossip) View() (announcer.View, bool) {
	g.mu.Lock()
	m, began := g.running, g.began
	g.mu.Unlock()
	if m == nil {
		return announcer.View{}, false
	}
	v := m.View()
	self := v.Member(g.node)
	met := self != nil && (self.Candidate || m.StartsOver() || time.Since(began) > meetFor)
	return v, met && m.Fresh()
}

// Run takes part until ctx ends.
func (g *gossip) Run(ctx context.Context) { g.loop.Run(ctx, g.step) }

// step takes part until ctx ends or this node's address changes.
func (g *gossip) step(ctx context.Context) error {
	m, ctx, err := g.begin(ctx)
	if m == nil || err != nil {
		return err
	}
	err = m.Run(ctx)
	g.mu.Lock()
	g.running = nil
	g.stop()
	g.stop = nil
	g.mu.Unlock()
	g.loop.Wake() // whatever ended it, unless it is the end of all
	return err
}

// begin makes a Members, or none if something is not known yet.
func (g *gossip) begin(ctx context.Context) (*members.Members, context.Context, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.said == nil || len(g.keys) == 0 || !g.bind.IsValid() {
		return nil, ctx, nil
	}
	boot, err := members.BootID()
	if err != nil {
		return nil, ctx, err
	}
	m, err := members.New(members.Config{
		Node: g.node, Boot: boot, Bind: g.bind, Keys: g.keys, Places: g.places.Load, Open: g.open, Key: g.key, Changed: g.changed, Answers: g.answers, Doubted: g.doubted, Log: g.log, Metrics: g.metrics,
	})
	if err != nil {
		return nil, ctx, err
	}
	m.Say(*g.said)
	m.SetSigners(g.signers)
	ctx, g.stop = context.WithCancel(ctx)
	g.running, g.began = m, time.Now()
	return m, ctx, nil
}
