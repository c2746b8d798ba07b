package nftables

import (
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// Slots are a Frontend and the numbered places that its endpoints have. The rules
// choose a number at random, and a map per number says which endpoint that is. An
// endpoint keeps its number while others come and go, so a change writes few
// elements. Slots are never changed: a Frontend that differs gets new ones.
type Slots struct {
	*proxy.Frontend
	cluster, local slots
}

// slots are one list of endpoints, and over how many numbers its chain spreads. The
// last of these may have no endpoint.
type slots struct {
	at   []netip.AddrPort // by number
	over int              // at least len(at)
}

// slots returns those of one list.
func (p *Slots) slots(local bool) *slots {
	if local {
		return &p.local
	}
	return &p.cluster
}

// change is one Frontend that differs; old is nil if it came, new if it went.
type change struct{ old, new *Slots }

// place returns the Slots of t, in its order, and what changed since r.
func (r *Ruleset) place(t *proxy.Table) (diff.Blocks[*Slots], []change) {
	var gone, come []*Slots
	var changes []change
	for was, is := range t.Changed(r.Table) {
		var old, now *Slots
		if was != nil {
			old, _ = diff.Find(r.slots, was.Key, func(p *Slots, k proxy.Key) int { return p.Key.Compare(k) })
			gone = append(gone, old)
		}
		switch {
		case is == nil:
		case old == nil:
			now = assignSlots(&Slots{}, is)
		case sameInKernel(was, is):
			// Its Service was compiled again, without effect on the elements.
			come = append(come, &Slots{is, old.cluster, old.local})
			continue
		default:
			now = assignSlots(old, is)
		}
		if now != nil {
			come = append(come, now)
		}
		changes = append(changes, change{old, now})
	}
	return r.slots.Apply(gone, come, func(a, b *Slots) int { return a.Key.Compare(b.Key) }), changes
}

// adopt returns the Slots of t, in its order, where tables hold held, and what changes
// with that. A Frontend that comes is left out of the changes: nothing follows from it.
func adopt(held map[snapshot.Family]map[string]*Slots, t *proxy.Table) ([]*Slots, []change) {
	out := make([]*Slots, 0, len(t.Frontends))
	var changes []change
	for _, f := range t.Frontends {
		key := (&Slots{Frontend: f}).id()
		old := held[f.Family][key]
		if old == nil {
			out = append(out, assignSlots(&Slots{}, f))
			continue
		}
		delete(held[f.Family], key)
		now := assignSlots(old, f)
		out, changes = append(out, now), append(changes, change{old, now})
	}
	// Held by the kernel and not in the Table: Services that went while no agent ran.
	for _, left := range held {
		for _, old := range left {
			changes = append(changes, change{old, nil})
		}
	}
	return out, changes
}

// sameInKernel reports whether the kernel holds the same for both.
func sameInKernel(a, b *proxy.Frontend) bool {
	return sameButEndpoints(a, b) && slices.Equal(a.Cluster, b.Cluster) && slices.Equal(a.Local, b.Local)
}

// sameButEndpoints reports whether the kernel holds the same for both, if they have the
// same endpoints.
func sameButEndpoints(a, b *proxy.Frontend) bool {
	return a.LocalOnly == b.LocalOnly && a.AllPorts == b.AllPorts && a.Directed == b.Directed && a.Empty == b.Empty && seconds(a.Affinity) == seconds(b.Affinity) &&
		(a.Sources == nil) == (b.Sources == nil) && slices.Equal(a.Sources, b.Sources) && slices.Equal(a.Ranges, b.Ranges)
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
	if f.AllPorts {
		return bucketSlots(f)
	}
	p := &Slots{Frontend: f, cluster: slots{at: assign(prev.cluster.at, f.Cluster)}}
	if f.LocalOnly || f.Directed {
		p.local.at = assign(prev.local.at, f.Local)
	}
	wasSticky := prev.Frontend != nil && prev.Affinity > 0
	for _, local := range []bool{false, true} {
		was, now := prev.slots(local), p.slots(local)
		switch n := len(now.at); {
		case f.Affinity > 0:
			now.over = n // a client is looked for in the memory of each slot, so that none is spare
		// The chain stays, and with it its verdicts: a changed verdict had the kernel look for loops
		// for 12 ms with 10,000 Services.
		case !wasSticky && full(was.over) <= n && n <= was.over:
			now.over = was.over
		default:
			now.over = slotCount(n)
		}
	}
	return p
}

// bucketSlots gives f's endpoints the slots that clients are hashed to. Where they were
// before does not count.
func bucketSlots(f *proxy.Frontend) *Slots {
	// A client has the same pod on every node: what was before on this one must not count.
	p := &Slots{Frontend: f, cluster: slots{at: buckets(f.Cluster)}}
	if f.LocalOnly || f.Directed {
		p.local.at = buckets(f.Local)
	}
	p.cluster.over, p.local.over = len(p.cluster.at), len(p.local.at)
	return p
}

// exactSlots is up to how many endpoints a new Frontend has as many slots.
const exactSlots = 16

// slotCount returns how many slots the chain of a new Frontend with n endpoints
// spreads over. A Frontend keeps its chain while that has enough slots and the first
// ones, full, are taken. So an endpoint that comes or goes seldom changes a verdict:
// for one, the kernel looks for loops among all verdicts. Above exactSlots there are
// few numbers, and with them few chains.
func slotCount(n int) int {
	count := min(n, exactSlots)
	for count < n {
		count = 5 * (count + 1) / 4
	}
	return count
}

// full returns how many slots of count are never empty, see balanceChain.
func full(count int) int { return max(1, 3*count/5) }

// balances are the chains that p's elements go to.
func (p *Slots) balances() []balance {
	var out []balance
	by, sticky := p.by(), seconds(p.Affinity)
	if p.AllPorts {
		sticky = 0
	}
	if p.cluster.over > 0 {
		out = append(out, balance{variant{by, false}, p.cluster.over, sticky, p.AllPorts})
	}
	if p.local.over > 0 {
		out = append(out, balance{variant{by, true}, p.local.over, sticky, p.AllPorts})
	}
	return out
}

// seconds is an affinity as a rule has it: whole seconds, 0 for none.
func seconds(d time.Duration) int { return int(proxy.AffinityTimeout(d) / time.Second) }

// assign gives each of the wanted endpoints a slot, the first ones without a gap. An
// endpoint stays in its slot in prev if that one still exists. assign depends on nothing
// but its arguments. It may return want.
func assign(prev, want []netip.AddrPort) []netip.AddrPort {
	if len(want) == 0 {
		return nil
	}
	if head, _ := diff.Common(prev, want); head == min(len(prev), len(want)) {
		return want // as of a new Frontend: lists of their own would be 8 MB in a large cluster
	}
	out, placed := make([]netip.AddrPort, len(want)), make([]bool, len(want))
	for i := range min(len(prev), len(want)) {
		// A table of an older version, or a broken one, may have an endpoint twice.
		if at, ok := find(want, prev[i]); ok && !placed[at] {
			out[i], placed[at] = want[at], true
		}
	}
	free := 0
	for at, ep := range want {
		// It keeps its slot: with affinity its clients are remembered there.
		if placed[at] {
			continue
		}
		for out[free].IsValid() {
			free++
		}
		out[free] = ep
	}
	return out
}

func find(sorted []netip.AddrPort, ep netip.AddrPort) (int, bool) {
	return slices.BinarySearchFunc(sorted, ep, netip.AddrPort.Compare)
}
