package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/gate"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Gate keeps who may reach the agent's own ports: *gate.Gate.
type Gate interface {
	Sync(gate.Wants) error
	Cleanup() error
}

// gatekeeper gives the Gate what it is to keep. Its loop is apart from the others, so
// that none waits for the kernel.
type gatekeeper struct {
	gate Gate // nil: nobody is kept out
	loop *reconcile.Loop

	// What wants was made of. Follow alone uses it.
	nodes []*snapshot.Node
	self  *snapshot.Node
	peers []bgp.Peer

	mu    sync.Mutex
	wants gate.Wants
}

func newGatekeeper(cfg *Config, log *slog.Logger) *gatekeeper {
	g := &gatekeeper{gate: cfg.Gate, loop: reconcile.New("gate", log)}
	g.loop.Resync = 10 * time.Second // somebody may have taken the rules out
	return g
}

// Follow makes the nodes of s, and the routers of plan, those that may reach the ports.
func (g *gatekeeper) Follow(s *snapshot.Snapshot, self *snapshot.Node, members uint16, plan bgp.Plan) {
	if g.gate == nil || g.nodes != nil && diff.Same(g.nodes, s.Nodes) && g.self == self && diff.Same(g.peers, plan.Peers) {
		return
	}
	g.nodes, g.self, g.peers = s.Nodes, self, plan.Peers
	wants := gateWants(s, self, members, plan)
	g.mu.Lock()
	same := reflect.DeepEqual(g.wants, wants)
	g.wants = wants
	g.mu.Unlock()
	if !same {
		g.loop.Wake()
	}
}

// Run works until ctx ends, and leaves the rules: a stop is a restart.
func (g *gatekeeper) Run(ctx context.Context) {
	if g.gate == nil {
		return
	}
	g.loop.Run(ctx, func(context.Context) error {
		g.mu.Lock()
		wants := g.wants
		g.mu.Unlock()
		if len(wants.Nodes) == 0 {
			return nil // no node is known yet
		}
		return g.gate.Sync(wants)
	})
}

// bfdPorts are those of RFC 5881 and RFC 5883.
var bfdPorts = []uint16{3784, 4784}

// gateWants is who may reach which of the agent's ports. self is this node as it was
// last known, or nil.
func gateWants(s *snapshot.Snapshot, self *snapshot.Node, members uint16, plan bgp.Plan) gate.Wants {
	w := gate.Wants{Members: members}
	nodes := s.Nodes
	if self != nil {
		nodes = append(slices.Clone(nodes), self)
	}
	for _, n := range nodes {
		w.Nodes = append(w.Nodes, n.InternalIPs...)
		w.Nodes = append(w.Nodes, n.ExternalIPs...)
	}
	for _, p := range plan.Peers {
		if p.BFD != nil {
			w.BFD = bfdPorts
		}
		if p.Passive {
			w.Sessions = append(w.Sessions, p.Port)
		}
		if p.BFD != nil || p.Passive {
			w.Peers = append(w.Peers, p.Addr.WithZone(""))
		}
	}
	slices.SortFunc(w.Nodes, netip.Addr.Compare)
	slices.SortFunc(w.Peers, netip.Addr.Compare)
	slices.Sort(w.Sessions)
	w.Nodes, w.Peers, w.Sessions = slices.Compact(w.Nodes), slices.Compact(w.Peers), slices.Compact(w.Sessions)
	return w
}
