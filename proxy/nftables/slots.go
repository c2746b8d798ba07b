package nftables

import (
	"net/netip"
	"slices"
)

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
// others in exactly one slot that is no copy; and which of want have one.
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
