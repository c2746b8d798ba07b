package agent

import (
	"context"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/gate"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Gate keeps who may reach the agent's own ports: *gate.Gate.
type Gate interface {
	Sync(gate.Wants) error
	Cleanup() error
}

// gatekeeper gives the Gate what it is to keep.
type gatekeeper struct {
	gate Gate // nil: nobody is kept out
	kept *kept[gate.Wants]

	// What is wanted was made of these. Follow alone uses them.
	nodes []*snapshot.Node
	self  *snapshot.Node
	peers []bgp.Peer
}

func newGatekeeper(cfg *Config) *gatekeeper {
	return &gatekeeper{gate: cfg.Gate, kept: newKept[gate.Wants]("gate", cfg.Log)}
}

// Follow makes the nodes of s, and the routers of plan, those that may reach the ports.
func (g *gatekeeper) Follow(s *snapshot.Snapshot, self *snapshot.Node, members uint16, plan bgp.Plan) {
	if g.gate == nil || g.nodes != nil && diff.Same(g.nodes, s.Nodes) && g.self == self && diff.Same(g.peers, plan.Peers) {
		return
	}
	g.nodes, g.self, g.peers = s.Nodes, self, plan.Peers
	// Without a node that is known, everybody would be kept out.
	if wants := gateWants(s, self, members, plan); len(wants.Nodes) > 0 {
		g.kept.want(wants)
	}
}

// Run works until ctx ends.
func (g *gatekeeper) Run(ctx context.Context) {
	if g.gate != nil {
		g.kept.run(ctx, g.gate.Sync)
	}
}

// bfdPorts are those of RFC 5881 and RFC 5883.
var bfdPorts = []uint16{3784, 4784}

// gateWants is who may reach which of the agent's ports. self is this node as it was
// last known, or nil.
func gateWants(s *snapshot.Snapshot, self *snapshot.Node, members uint16, plan bgp.Plan) gate.Wants {
	w := gate.Wants{Members: members}
	nodes := s.Nodes
	// Its Node object may be deleted while the node runs.
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
			// nftables knows no zones.
			w.Peers = append(w.Peers, p.Addr.WithZone(""))
		}
	}
	slices.SortFunc(w.Nodes, netip.Addr.Compare)
	slices.SortFunc(w.Peers, netip.Addr.Compare)
	slices.Sort(w.Sessions)
	w.Nodes, w.Peers, w.Sessions = slices.Compact(w.Nodes), slices.Compact(w.Peers), slices.Compact(w.Sessions)
	return w
}
