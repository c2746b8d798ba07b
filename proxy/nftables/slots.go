package nftables

import (
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/proxy"
)

// Slots are a Frontend and the numbered places that its endpoints have. The rules
// choose a number at random, and a map per number says which endpoint that is. An
// endpoint keeps its number while others come and go, so a change writes few
// elements. Slots are never changed: a Frontend that differs gets new ones.
type Slots struct {
	*proxy.Frontend
	cluster, local []slot
}

// change is one Frontend that differs; old is nil if it came, new if it went.
type change struct{ old, new *Slots }

// place returns the Slots of want, in its order, and what changed since r, whose Table
// is sorted like want. A Frontend that is the same pointer in both is not looked at:
// an unchanged Table costs a comparison of pointers.
func (r *Ruleset) place(want []*proxy.Frontend) ([]*Slots, []change) {
	// r.slots are in the order of r.Table.Frontends.
	head, tail := diff.Common(r.Table.Frontends, want)
	if head == len(r.slots) && head == len(want) {
		return r.slots, nil
	}
	out := append(make([]*Slots, 0, len(want)), r.slots[:head]...)
	old, last := r.slots[head:len(r.slots)-tail], r.slots[len(r.slots)-tail:]
	samePointer := func(p *Slots, f *proxy.Frontend) bool { return p.Frontend == f }
	order := func(p *Slots, f *proxy.Frontend) int {
		if samePointer(p, f) {
			return 0
		}
		return p.Key.Compare(f.Key)
	}
	var changes []change
	for was, f := range diff.Sorted(old, want[head:len(want)-tail], order) {
		switch {
		case f == nil: // it went
			changes = append(changes, change{old: *was})
		case was == nil: // it came
			now := assignSlots(&Slots{}, *f)
			out, changes = append(out, now), append(changes, change{new: now})
		case samePointer(*was, *f):
			out = append(out, *was)
		case sameInKernel((*was).Frontend, *f):
			// Its Service was compiled again, without effect on the elements. The new
			// pointer must be kept, or each later Sync would compare the values.
			out = append(out, &Slots{*f, (*was).cluster, (*was).local})
		default:
			now := assignSlots(*was, *f)
			out, changes = append(out, now), append(changes, change{*was, now})
		}
	}
	return append(out, last...), changes
}

// sameInKernel reports whether the kernel holds the same for both.
func sameInKernel(a, b *proxy.Frontend) bool {
	return a.LocalOnly == b.LocalOnly && a.Empty == b.Empty && a.Affinity == b.Affinity &&
		slices.Equal(a.Cluster, b.Cluster) && slices.Equal(a.Local, b.Local) &&
		(a.Sources == nil) == (b.Sources == nil) && slices.Equal(a.Sources, b.Sources)
}

// newOrOld returns the new Slots, or the old ones of a Frontend that went.
func (c change) newOrOld() *Slots {
	if c.new != nil {
		return c.new
	}
	return c.old
}

// assignSlots gives f's endpoints slots; prev says where they are now.
func assignSlots(prev *Slots, f *proxy.Frontend) *Slots {
	p := &Slots{Frontend: f, cluster: assign(prev.cluster, f.Cluster, f.Affinity > 0)}
	if f.LocalOnly {
		p.local = assign(prev.local, f.Local, f.Affinity > 0)
	}
	return p
}

// balances are the chains that p's elements go to.
func (p *Slots) balances() []balance {
	var out []balance
	np, sticky := p.Kind == proxy.NodePort, seconds(p.Affinity)
	if len(p.cluster) > 0 {
		out = append(out, balance{variant{np, false}, len(p.cluster), sticky})
	}
	if len(p.local) > 0 {
		out = append(out, balance{variant{np, true}, len(p.local), sticky})
	}
	return out
}

// seconds is an affinity as a rule has it: whole seconds, at least one.
func seconds(d time.Duration) int {
	if d <= 0 {
		return 0
	}
	return max(1, int(d/time.Second))
}

// slot is one place that a new connection may be sent to. With affinity a slot
// that lost its endpoint in the middle holds a copy of a live endpoint, so that
// the slots after it need not move.
type slot struct {
	ep   netip.AddrPort
	copy bool
}

// assign gives every wanted endpoint a slot. Endpoints that were in prev keep
// their slot when the count allows it; with sticky they always do. It depends
// on nothing but its arguments.
func assign(prev []slot, want []netip.AddrPort, sticky bool) []slot {
	switch {
	case len(want) == 0:
		return nil
	case len(prev) == 0:
		out := make([]slot, len(want))
		for i, ep := range want {
			out[i].ep = ep
		}
		return out
	case sticky:
		return assignSticky(prev, want)
	}
	return assignDense(prev, want)
}

// assignDense uses exactly len(want) slots.
func assignDense(prev []slot, want []netip.AddrPort) []slot {
	out := make([]slot, len(want))
	placed := make([]bool, len(want))
	for i := range min(len(prev), len(out)) {
		if at, ok := find(want, prev[i].ep); ok && !placed[at] {
			out[i].ep, placed[at] = prev[i].ep, true
		}
	}
	next := 0
	for i, ep := range want {
		if placed[i] {
			continue
		}
		for out[next].ep.IsValid() {
			next++
		}
		out[next].ep = ep
	}
	return out
}

// assignSticky moves no live endpoint: new ones take freed slots, then copies'
// slots, then new slots at the end.
func assignSticky(prev []slot, want []netip.AddrPort) []slot {
	out, placed := survivors(prev, want)
	var free []int
	for _, freed := range []bool{true, false} {
		for i, s := range out {
			if freed == !s.ep.IsValid() && (freed || s.copy) {
				free = append(free, i)
			}
		}
	}
	for i, ep := range want {
		switch {
		case placed[i]:
		case len(free) > 0:
			out[free[0]] = slot{ep: ep}
			free = free[1:]
		default:
			out = append(out, slot{ep: ep})
		}
	}
	for n := len(out); n > 0 && (out[n-1].copy || !out[n-1].ep.IsValid()); n-- {
		out = out[:n-1]
	}
	return fillCopies(out, want)
}

// survivors returns prev without the endpoints that are not wanted, each of the
// others in exactly one slot that is not a copy; and which endpoints of want have a
// slot.
func survivors(prev []slot, want []netip.AddrPort) ([]slot, []bool) {
	out := slices.Clone(prev)
	placed := make([]bool, len(want))
	for i, s := range out {
		at, ok := find(want, s.ep)
		switch {
		case !ok:
			out[i] = slot{}
		case !s.copy && !placed[at]:
			placed[at] = true
		default:
			out[i].copy = true
		}
	}
	for i, s := range out {
		if at, ok := find(want, s.ep); ok && !placed[at] {
			out[i].copy, placed[at] = false, true
		}
	}
	return out, placed
}

// fillCopies puts into every empty slot the endpoint that has the fewest slots.
func fillCopies(out []slot, want []netip.AddrPort) []slot {
	uses := make([]int, len(want))
	for _, s := range out {
		if at, ok := find(want, s.ep); ok {
			uses[at]++
		}
	}
	for i := range out {
		if out[i].ep.IsValid() {
			continue
		}
		least := 0
		for j := range uses {
			if uses[j] < uses[least] {
				least = j
			}
		}
		out[i] = slot{ep: want[least], copy: true}
		uses[least]++
	}
	return out
}

func find(sorted []netip.AddrPort, ep netip.AddrPort) (int, bool) {
	return slices.BinarySearchFunc(sorted, ep, netip.AddrPort.Compare)
}

// endpoints returns the distinct endpoints in slots, sorted.
func endpoints(slots []slot) []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range slots {
		if s.ep.IsValid() && !s.copy {
			out = append(out, s.ep)
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}
