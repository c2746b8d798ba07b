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
	last   *snapshot.Snapshot                 // nil before the first Follow
	checks []Check                            // sorted
	public map[snapshot.Ref]*snapshot.Service // those with node ports
}

// NewIndex makes an Index for the node called node, which knows of no Service.
func NewIndex(node string) *Index {
	return &Index{node: node, public: map[snapshot.Ref]*snapshot.Service{}}
}

// Follow makes s what the Index knows.
func (x *Index) Follow(s *snapshot.Snapshot) {
	var goneChecks, comeChecks []Check
	add := func(was, now *snapshot.Service) {
		// Most changes of endpoints leave the counts, and so the sockets, as they are.
		if gone, come := checks(was, x.node), checks(now, x.node); !slices.Equal(gone, come) {
			goneChecks, comeChecks = append(goneChecks, gone...), append(comeChecks, come...)
		}
		if public(was) {
			delete(x.public, was.Ref)
		}
		if public(now) {
			x.public[now.Ref] = now
		}
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
	x.last = s
}

// Checks returns the health checks of the node, sorted.
func (x *Index) Checks() []Check { return x.checks }

// public reports whether svc, which may be nil, has node ports.
func public(svc *snapshot.Service) bool {
	return svc != nil && (svc.Type == snapshot.NodePort || svc.Type == snapshot.LoadBalancer) && svc.Served()
}
