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
	cluster, local []netip.AddrPort // by number; an endpoint may be there several times
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
	return a.LocalOnly == b.LocalOnly && a.Empty == b.Empty && seconds(a.Affinity) == seconds(b.Affinity) &&
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
	count := slotCount
	if f.Affinity > 0 {
		// A client is looked for in the memory of each slot, so that there are no more
		// slots than endpoints.
		count = func(n int) int { return n }
	}
	p := &Slots{Frontend: f, cluster: assign(prev.cluster, f.Cluster, count(len(f.Cluster)))}
	if f.LocalOnly {
		p.local = assign(prev.local, f.Local, count(len(f.Local)))
	}
	return p
}

// exactSlots is up to how many endpoints there is one slot for each.
const exactSlots = 16

// slotCount returns how many slots n endpoints without affinity have. Above exactSlots
// it is the same number for many n, so that an endpoint that comes or goes changes
// what a few slots hold, and not their number. That would be a verdict, for which the
// kernel looks for loops among all verdicts. The number is 5 times the fewest
// endpoints that have it, and at least 4 times the most: no endpoint is chosen more
// than 1.25 times as often as another.
func slotCount(n int) int {
	fewest := exactSlots + 1
	if n < fewest {
		return n
	}
	for n > 5*fewest/4 {
		fewest = 5*fewest/4 + 1
	}
	return 5 * fewest
}

// slotCountFrom returns the least that slotCount returns and that is not below n.
func slotCountFrom(n int) int {
	endpoints := min(n, exactSlots)
	for slotCount(endpoints) < n {
		endpoints = 5*endpoints/4 + 1
	}
	return slotCount(endpoints)
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

// seconds is an affinity as a rule has it: whole seconds, 0 for none.
func seconds(d time.Duration) int { return int(proxy.AffinityTimeout(d) / time.Second) }

// assign gives the wanted endpoints n slots. Each has n/len(want) of them, or one more.
// An endpoint stays in as many of its slots in prev as it may have. assign depends on
// nothing but its arguments.
func assign(prev, want []netip.AddrPort, n int) []netip.AddrPort {
	if len(want) == 0 {
		return nil
	}
	out, uses := make([]netip.AddrPort, n), make([]int, len(want))
	least, more := n/len(want), n%len(want) // more endpoints have one slot more than least
	put := func(i, at int) {
		if uses[at] == least {
			more--
		}
		out[i] = want[at]
		uses[at]++
	}
	for i := range min(len(prev), n) {
		at, ok := find(want, prev[i])
		if ok && (uses[at] < least || uses[at] == least && more > 0) {
			put(i, at)
		}
	}
	free := 0
	fill := func(at int) {
		for out[free].IsValid() {
			free++
		}
		put(free, at)
	}
	for at := range want {
		for uses[at] < least {
			fill(at)
		}
	}
	for at := range want {
		if uses[at] == least && more > 0 {
			fill(at)
		}
	}
	return out
}

func find(sorted []netip.AddrPort, ep netip.AddrPort) (int, bool) {
	return slices.BinarySearchFunc(sorted, ep, netip.AddrPort.Compare)
}

// endpoints returns the distinct endpoints in slots, sorted.
func endpoints(slots []netip.AddrPort) []netip.AddrPort {
	out := slices.DeleteFunc(slices.Clone(slots), func(ep netip.AddrPort) bool { return !ep.IsValid() })
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}
