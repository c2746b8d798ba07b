package announcer

import (
	"maps"
	"reflect"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Decider is Decide with a memory: it decides anew about the addresses of which
// something changed. The result never depends on the memory. It may be the same
// value as the last one, and must not be changed.
type Decider struct {
	in   Input     // of the last decision; Ready is not kept
	last []decided // of each of its addresses
	plan Plan
}

// decided is what was decided of one address.
type decided struct {
	addr *snapshot.Address
	plan Plan
	// ready is Input.Ready of it.
	ready bool
}

// Decide is like the function Decide.
func (d *Decider) Decide(in Input) Plan {
	changed, known := d.changed(in)
	now, rest, same := make([]decided, 0, len(in.Snapshot.Addresses)), d.last, known
	for _, a := range in.Snapshot.Addresses {
		for len(rest) > 0 && rest[0].addr != a && rest[0].addr.Addr.Compare(a.Addr) <= 0 {
			rest, same = rest[1:], false
		}
		one := decided{addr: a, ready: in.Ready[a.Addr]}
		kept := known && len(rest) > 0 && rest[0].addr == a
		again := slices.ContainsFunc(a.Holders, func(h snapshot.Holder) bool { return changed[h.Ref] })
		if kept && !again && rest[0].ready == one.ready {
			one.plan = rest[0].plan
		} else {
			one.plan.decide(in, a)
			same = same && kept && reflect.DeepEqual(one.plan, rest[0].plan)
		}
		if len(rest) > 0 && rest[0].addr == a {
			rest = rest[1:]
		}
		now = append(now, one)
	}
	if !same || len(rest) > 0 {
		d.plan = Plan{}
		for _, one := range now {
			d.plan.Announce = append(d.plan.Announce, one.plan.Announce...)
			d.plan.Refused = append(d.plan.Refused, one.plan.Refused...)
			d.plan.Disputed = append(d.plan.Disputed, one.plan.Disputed...)
		}
	}
	in.Ready, in.Alive, in.Others = nil, maps.Clone(in.Alive), maps.Clone(in.Others)
	d.in, d.last = in, now
	return d.plan
}

// changed returns the Services that are not what they were at the last decision;
// false if something changed that may concern every address.
func (d *Decider) changed(in Input) (map[snapshot.Ref]bool, bool) {
	old, now := d.in.Snapshot, in.Snapshot
	if old == nil || d.in.Node != in.Node || !maps.Equal(d.in.Alive, in.Alive) ||
		!slices.Equal(old.Nodes, now.Nodes) || !slices.Equal(old.Namespaces, now.Namespaces) || !slices.Equal(old.Pools, now.Pools) ||
		!slices.Equal(old.Announcements, now.Announcements) || !slices.Equal(old.NodeStates, now.NodeStates) ||
		!slices.Equal(old.BGPPeers, now.BGPPeers) ||
		!reflect.DeepEqual(d.in.Self, in.Self) || !reflect.DeepEqual(d.in.Others, in.Others) {
		return nil, false
	}
	refs := map[snapshot.Ref]bool{}
	a, b := old.Services, now.Services
	for len(a) > 0 && len(b) > 0 {
		c := 0
		if a[0] != b[0] {
			if c = a[0].Ref.Compare(b[0].Ref); c <= 0 {
				refs[a[0].Ref] = true
			}
			if c >= 0 {
				refs[b[0].Ref] = true
			}
		}
		if c <= 0 {
			a = a[1:]
		}
		if c >= 0 {
			b = b[1:]
		}
	}
	for _, svc := range append(slices.Clone(a), b...) {
		refs[svc.Ref] = true
	}
	return refs, true
}
