package record

import (
	"net/netip"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Rounds groups a Plan's outcomes so that each comes after the outcomes of those that it
// takes an address from: a record is taken only from a Service that holds its new address
// already, or should hold none. Outcomes of one round do not depend on each other. In a
// ring, which a Plan has only if somebody in it lost a shared address, one comes too early.
func Rounds(plan *allocator.Plan, writes map[netip.Addr]Write) [][]allocator.Outcome {
	r := rounds{writes: writes, byRef: make(map[snapshot.Ref]*allocator.Outcome, len(plan.Services)), depth: map[snapshot.Ref]int{}}
	for i := range plan.Services {
		r.byRef[plan.Services[i].Ref] = &plan.Services[i]
	}
	var out [][]allocator.Outcome
	for i := range plan.Services {
		n := r.roundOf(&plan.Services[i])
		for len(out) <= n {
			out = append(out, nil)
		}
		out[n] = append(out[n], plan.Services[i])
	}
	return out
}

type rounds struct {
	writes map[netip.Addr]Write
	byRef  map[snapshot.Ref]*allocator.Outcome
	depth  map[snapshot.Ref]int
}

func (r *rounds) roundOf(o *allocator.Outcome) int {
	if n, seen := r.depth[o.Ref]; seen {
		return n
	}
	r.depth[o.Ref] = 0 // ends a ring
	n := 0
	for _, addr := range o.Addrs {
		for _, l := range r.writes[addr].Blockers() {
			if loser := r.byRef[l.Ref]; loser != nil && loser.UID == l.UID {
				n = max(n, r.roundOf(loser)+1)
			}
		}
	}
	r.depth[o.Ref] = n
	return n
}
