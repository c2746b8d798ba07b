package agent

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/astray"
	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Strays passes ICMP errors on to the node that has their connection: *astray.Strays.
type Strays interface {
	Sync(astray.Wants) error
	Cleanup() error
}

// straying gives the Strays the nodes and VIPs. Its loop is apart from the others, so that none
// waits for the kernel.
type straying struct {
	strays Strays // nil: errors are passed on to nobody
	loop   *reconcile.Loop

	// What wants was made of. Follow alone uses it.
	of   *snapshot.Snapshot
	self *snapshot.Node

	mu    sync.Mutex
	wants *astray.Wants // nil: not known yet
}

func newStraying(cfg *Config) *straying {
	r := &straying{strays: cfg.Strays, loop: reconcile.New("ICMP errors", cfg.Log)}
	r.loop.Resync = 10 * time.Second // somebody may have taken the rules out
	return r
}

// Follow makes what s has the addresses and nodes between which errors are passed on. self is
// this node as it was last known, or nil.
func (r *straying) Follow(s *snapshot.Snapshot, self *snapshot.Node) {
	same := r.of != nil && r.self == self && diff.Same(r.of.Nodes, s.Nodes) && diff.Same(r.of.Announcements, s.Announcements) && diff.Same(r.of.Addresses, s.Addresses)
	if r.of, r.self = s, self; r.strays == nil || same {
		return
	}
	wants := strayWants(s, self)
	r.mu.Lock()
	same = r.wants != nil && reflect.DeepEqual(*r.wants, wants)
	r.wants = &wants
	r.mu.Unlock()
	if !same {
		r.loop.Wake()
	}
}

// Run works until ctx ends, and leaves the rules: a stop is a restart.
func (r *straying) Run(ctx context.Context) {
	if r.strays == nil {
		return
	}
	r.loop.Run(ctx, func(context.Context) error {
		r.mu.Lock()
		wants := r.wants
		r.mu.Unlock()
		if wants == nil {
			return nil
		}
		return r.strays.Sync(*wants)
	})
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

// selected reports whether an Announcement selects a node. Where there is none, another
// program announces, by any node.
func selected(all []*snapshot.Announcement, n *snapshot.Node) bool {
	return len(all) == 0 || slices.ContainsFunc(all, func(an *snapshot.Announcement) bool { return an.NodeSelector.Matches(n.Labels) })
}
