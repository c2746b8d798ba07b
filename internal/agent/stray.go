package agent

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/astray"
	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Strays passes ICMP errors on to the node that has their connection: *astray.Strays.
type Strays interface {
	Sync(astray.Wants) error
	Cleanup() error
}

// straying gives the Strays the nodes and VIPs.
type straying struct {
	strays Strays // nil: errors are passed on to nobody
	kept   *kept[astray.Wants]

	// What is wanted was made of these. Follow alone uses them.
	of   *snapshot.Snapshot
	self *snapshot.Node
}

func newStraying(cfg *Config) *straying {
	return &straying{strays: cfg.Strays, kept: newKept[astray.Wants]("ICMP errors", cfg.Log)}
}

// Follow makes what s has the addresses and nodes between which errors are passed on. self is
// this node as it was last known, or nil.
func (r *straying) Follow(s *snapshot.Snapshot, self *snapshot.Node) {
	same := r.of != nil && r.self == self && diff.Same(r.of.Nodes, s.Nodes) && diff.Same(r.of.Announcements, s.Announcements) && diff.Same(r.of.Addresses, s.Addresses)
	if r.of, r.self = s, self; r.strays == nil || same {
		return
	}
	r.kept.want(strayWants(s, self))
}

// Run works until ctx ends.
func (r *straying) Run(ctx context.Context) {
	if r.strays != nil {
		r.kept.run(ctx, r.strays.Sync)
	}
}

// strayWants is between which nodes ICMP errors are passed on, and about which addresses. The
// other nodes are those that may announce. If there are too many, each node has those that
// follow it by name.
func strayWants(s *snapshot.Snapshot, self *snapshot.Node) (w astray.Wants) {
	if self == nil {
		return w
	}
	w.Own = self.InternalIPs
	after, _ := slices.BinarySearchFunc(s.Nodes, self.Name, func(n *snapshot.Node, name string) int { return strings.Compare(n.Name, name) })
	number := map[snapshot.Family]int{}
	for _, n := range slices.Concat(s.Nodes[after:], s.Nodes[:after]) {
		if n.Name == self.Name || !selected(s.Announcements, n) {
			continue
		}
		for _, a := range n.InternalIPs {
			if number[snapshot.FamilyOf(a)]++; number[snapshot.FamilyOf(a)] <= astray.MostNodes && !slices.Contains(w.Nodes, a) {
				w.Nodes = append(w.Nodes, a)
			}
		}
	}
	for _, a := range s.Addresses {
		if len(a.Holders) > 0 {
			w.VIPs = append(w.VIPs, a.Addr)
		}
	}
	slices.SortFunc(w.VIPs, netip.Addr.Compare)
	return w
}

// selected reports whether an Announcement selects a node. A cluster without Announcements has
// another program announce, which may use any node.
func selected(all []*snapshot.Announcement, n *snapshot.Node) bool {
	return len(all) == 0 || slices.ContainsFunc(all, func(an *snapshot.Announcement) bool { return an.NodeSelector.Matches(n.Labels) })
}
