package nodeport

import (
	"slices"

	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Index is what one node's health checks and node ports need to know of a Snapshot. To
// follow the next Snapshot takes the work of what changed.
type Index struct {
	node   string
	last   *snapshot.Snapshot  // nil before the first Follow
	checks []Check             // sorted
	public []*snapshot.Service // those with node ports, sorted
}

// NewIndex makes an Index for the node called node, which knows of no Service.
func NewIndex(node string) *Index { return &Index{node: node} }

// Follow makes s what the Index knows.
func (x *Index) Follow(s *snapshot.Snapshot) {
	var goneChecks, comeChecks []Check
	var gone, come []*snapshot.Service
	add := func(was, now *snapshot.Service) {
		goneChecks, comeChecks = append(goneChecks, checks(was, x.node)...), append(comeChecks, checks(now, x.node)...)
		gone, come = append(gone, public(was)...), append(come, public(now)...)
	}
	if x.last == nil {
		for _, svc := range s.Services {
			add(nil, svc)
		}
	} else {
		for _, ref := range snapshot.Diff(x.last, s).Services {
			add(x.last.Service(ref), s.Service(ref))
		}
	}
	slices.SortFunc(goneChecks, compareChecks)
	slices.SortFunc(comeChecks, compareChecks)
	x.checks = diff.Apply(x.checks, goneChecks, comeChecks, compareChecks)
	x.public = diff.Apply(x.public, gone, come, func(a, b *snapshot.Service) int { return a.Ref.Compare(b.Ref) })
	x.last = s
}

// Checks returns the health checks of the node, sorted.
func (x *Index) Checks() []Check { return x.checks }

// public returns svc, which may be nil, if it has node ports.
func public(svc *snapshot.Service) []*snapshot.Service {
	if svc == nil || svc.Type != snapshot.NodePort && svc.Type != snapshot.LoadBalancer || !svc.Served() {
		return nil
	}
	return []*snapshot.Service{svc}
}
