package allocator

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// pool is an AddressPool while one decision is made.
type pool struct {
	*snapshot.Pool
	v4, v6 block
	off    snapshot.Reason // why it gives nothing to anybody; "" if it gives
	clash  snapshot.Refusal
	pinned bool // serves only some namespaces or Services

	byNamespace map[string]int // addresses that each namespace holds, if that is limited

	reserved map[netip.Addr]snapshot.Ref // for whom each address is kept

	skipped []use // addresses of nodes and of the API server in its ranges, which it does not give

	slots []*nodeSlot // the nodes' own addresses, if it gives those
}

// block is one family of a pool.
type block struct {
	spans    []span // sorted, merged
	total    num
	free     freeSet
	cooling  []cooling // by address; not in free
	assigned uint64
	reserved uint64 // kept for Services that do not hold them
}

func newPool(p *snapshot.Pool, cluster *taken) *pool {
	out := &pool{Pool: p, clash: snapshot.Refusal{Reason: NoConflict, Message: "overlaps nothing"}}
	out.pinned = len(p.Namespaces) > 0 || set(p.NamespaceSelector) || set(p.ServiceSelector)
	for _, r := range p.Ranges {
		if !r.IsValid() {
			continue
		}
		b := out.block(snapshot.FamilyOf(r.From()))
		b.spans = append(b.spans, span{numOf(r.From()), numOf(r.To())})
	}
	for _, f := range families {
		out.block(f).spans = merge(out.block(f).spans)
	}
	// The router lets the prefix go: a new holder would lose its address with it.
	for _, r := range p.PrefixRanges(snapshot.PrefixLeaving) {
		out.v6.spans = without(out.v6.spans, span{numOf(r.From()), numOf(r.To())})
	}
	for _, r := range p.Exclude {
		if r.IsValid() {
			b := out.block(snapshot.FamilyOf(r.From()))
			b.spans = without(b.spans, span{numOf(r.From()), numOf(r.To())})
		}
	}
	cluster.skip(out)
	for _, f := range families {
		b := out.block(f)
		// Only IPv4 has devices that take .0 and .255 for the network and its broadcast.
		avoid := p.AvoidBuggyIPs && f == snapshot.IPv4
		for _, s := range b.spans {
			b.total = b.total.plus(s.size(avoid))
		}
		b.free = newFreeSet(b.spans, avoid)
	}
	out.reserve()
	return out
}

var families = [...]snapshot.Family{snapshot.IPv4, snapshot.IPv6}

// set reports whether sel selects at all: an empty selector is as good as none.
func set(sel *snapshot.Selector) bool {
	return sel != nil && (len(sel.MatchLabels) > 0 || len(sel.Expressions) > 0)
}

func (p *pool) block(f snapshot.Family) *block {
	if f == snapshot.IPv4 {
		return &p.v4
	}
	return &p.v6
}

// avoids reports whether p contains addr but may not give it.
func (p *pool) avoids(addr netip.Addr) bool {
	return p.AvoidBuggyIPs && addr.Is4() && buggy(numOf(addr))
}

// serves reports whether svc may have addresses of p. A namespace is let in by
// the list or by the selector.
func (p *pool) serves(svc *snapshot.Service, ns *snapshot.Namespace) bool {
	if !p.pinned {
		return true
	}
	if set(p.ServiceSelector) && !p.ServiceSelector.Matches(svc.Labels) {
		return false
	}
	if len(p.Namespaces) == 0 && !set(p.NamespaceSelector) || slices.Contains(p.Namespaces, svc.Namespace) {
		return true
	}
	var labels map[string]string
	if ns != nil {
		labels = ns.Labels
	}
	return set(p.NamespaceSelector) && p.NamespaceSelector.Matches(labels)
}

// pools is all pools of a Snapshot.
type pools struct {
	all    []*pool // by name
	order  []*pool // in which they are asked: priority, pinned first, name
	byAge  []*pool // older first
	v4, v6 []part  // of the pools that stand, sorted: no two overlap
}

// part is one interval of a pool.
type part struct {
	span
	pool *pool
}

func newPools(s *snapshot.Snapshot, apiServers []netip.Addr) *pools {
	ps := &pools{}
	cluster := takenByCluster(s, apiServers)
	for _, p := range s.Pools {
		ps.all = append(ps.all, newPool(p, cluster))
	}
	ps.order, ps.byAge = slices.Clone(ps.all), slices.Clone(ps.all)
	slices.SortFunc(ps.order, func(a, b *pool) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(index(b.pinned), index(a.pinned)), cmp.Compare(a.Name, b.Name))
	})
	// By age: a newer pool cannot take addresses from one that gives already.
	slices.SortFunc(ps.byAge, func(a, b *pool) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name))
	})
	ps.findClashes(cluster)
	return ps
}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (ps *pools) parts(f snapshot.Family) *[]part {
	if f == snapshot.IPv4 {
		return &ps.v4
	}
	return &ps.v6
}

// findClashes settles which pools stand: the older one wins whole, the newer is
// Conflicting whole, and a pool that does not stand takes nobody's place.
func (ps *pools) findClashes(cluster *taken) {
	for _, p := range ps.byAge {
		switch {
		case len(p.Bad) > 0:
			p.off = PoolInvalid
			continue
		case p.Disabled:
			// It stands all the same: its holders keep, and a newer pool must not give these addresses.
			p.off = PoolDisabled
		}
		why := cluster.clash(p)
		if why == nil {
			why = ps.overlap(p)
		}
		if why != nil {
			p.off, p.clash = PoolConflicting, *why
			continue
		}
		for _, f := range families {
			ps.add(p, f)
		}
	}
}

func (ps *pools) add(p *pool, f snapshot.Family) {
	parts := ps.parts(f)
	for _, s := range p.block(f).spans {
		i := sort.Search(len(*parts), func(i int) bool { return s.to.less((*parts)[i].from) })
		*parts = slices.Insert(*parts, i, part{s, p})
	}
}

// overlap finds the oldest pool that stands and shares an address with p.
func (ps *pools) overlap(p *pool) *snapshot.Refusal {
	for _, f := range families {
		parts := *ps.parts(f)
		for _, s := range p.block(f).spans {
			i := sort.Search(len(parts), func(i int) bool { return !parts[i].to.less(s.from) })
			if i < len(parts) && parts[i].overlaps(s) {
				return refuse(OverlapsPool, "overlaps the older pool %s at %s", parts[i].pool.Name, larger(parts[i].from, s.from).addr(f))
			}
		}
	}
	return nil
}

func larger(a, b num) num {
	if a.less(b) {
		return b
	}
	return a
}

// containing returns the pool whose ranges contain addr: one that stands before
// one that does not; nil if there is none.
func (ps *pools) containing(addr netip.Addr) *pool {
	f, n := snapshot.FamilyOf(addr), numOf(addr)
	parts := *ps.parts(f)
	i := sort.Search(len(parts), func(i int) bool { return n.less(parts[i].from) }) - 1
	if i >= 0 && !parts[i].to.less(n) {
		return parts[i].pool
	}
	// Holders of a pool that no longer stands are told of that pool.
	for _, p := range ps.byAge {
		if (p.off == PoolInvalid || p.off == PoolConflicting) && within(p.block(f).spans, n) {
			return p
		}
	}
	return nil
}

// giving is containing, but nil too if the pool avoids addr.
func (ps *pools) giving(addr netip.Addr) *pool {
	if p := ps.containing(addr); p != nil && !p.avoids(addr) {
		return p
	}
	return nil
}

func (ps *pools) named(name string) *pool {
	i := sort.Search(len(ps.all), func(i int) bool { return ps.all[i].Name >= name })
	if i < len(ps.all) && ps.all[i].Name == name {
		return ps.all[i]
	}
	return nil
}

// outcome is what is to be written to the pool's status.
func (p *pool) outcome() PoolOutcome {
	out := PoolOutcome{Name: p.Name, Ready: p.ready()}
	out.Status.ObservedGeneration = p.Generation
	out.Status.IPv4, out.Status.IPv6 = p.v4.count(p.off != ""), p.v6.count(p.off != "")
	if p.Nodes != nil {
		out.Status.IPv4, out.Status.IPv6 = p.countNodes(snapshot.IPv4), p.countNodes(snapshot.IPv6)
	}
	out.Conflicting = snapshot.Condition{Status: "False", Reason: string(p.clash.Reason), Message: p.clash.Message}
	if p.off == PoolConflicting || len(p.skipped) > 0 {
		out.Conflicting.Status = "True"
	}
	return out
}

// count counts a block; a pool that is off has nothing free.
func (b *block) count(off bool) snapshot.PoolCount {
	c := snapshot.PoolCount{Total: b.total.int64(), Assigned: num{0, b.assigned}.int64()}
	if !off {
		// Not the number of free spans: what cools down can still be given.
		c.Free = b.total.minus(num{0, b.assigned + b.reserved}).int64()
	}
	return c
}

func (p *pool) ready() snapshot.Condition {
	no := func(reason snapshot.Reason, message string) snapshot.Condition {
		return snapshot.Condition{Status: "False", Reason: string(reason), Message: message}
	}
	switch {
	case p.off == PoolInvalid:
		return no(PoolInvalid, strings.Join(p.Bad, "; "))
	case p.off == PoolConflicting:
		return no(PoolConflicting, p.clash.Message)
	case p.off == PoolDisabled:
		return no(PoolDisabled, "spec.disabled: holders stay, nobody joins")
	case p.Nodes != nil && len(p.slots) == 0:
		return no(PoolEmpty, "spec.nodeAddresses selects no node with an address")
	case p.Nodes != nil:
		return snapshot.Condition{Status: "True", Reason: string(PoolReady), Message: "gives the nodes' own addresses"}
	case p.FromDHCP != nil:
		return snapshot.Condition{Status: "True", Reason: string(PoolReady), Message: "gives addresses that are leased from a DHCP server"}
	case p.v4.total == num{} && p.v6.total == num{} && p.FromPrefix != nil:
		return no(PoolEmpty, "spec.fromPrefix: the pool has no prefix yet: see the condition Prefix")
	case p.v4.total == num{} && p.v6.total == num{}:
		return no(PoolEmpty, "spec.addresses has no address to give")
	}
	return snapshot.Condition{Status: "True", Reason: string(PoolReady), Message: "gives addresses"}
}

// why says in a sentence why p gives nothing.
func (p *pool) why() string {
	if p.off == PoolConflicting {
		return fmt.Sprintf("pool %s %s", p.Name, p.clash.Message)
	}
	return fmt.Sprintf("pool %s: %s", p.Name, p.ready().Message)
}

// skipping says why a pool that has addr in its ranges does not give it; "" if none
// has, or if addr is given.
func (ps *pools) skipping(addr netip.Addr) string {
	for _, p := range ps.byAge {
		if slices.ContainsFunc(p.Exclude, func(r netipx.IPRange) bool { return r.Contains(addr) }) && slices.ContainsFunc(p.Ranges, func(r netipx.IPRange) bool { return r.Contains(addr) }) {
			return "is excluded from pool " + p.Name
		}
		if k, ok := p.InPrefix(snapshot.PrefixLeaving, addr); ok && !p.contains(addr) {
			return fmt.Sprintf("is in %s, the former prefix of pool %s", k.Prefix, p.Name)
		}
		for _, u := range p.skipped {
			if u.prefix.Addr() == addr {
				return fmt.Sprintf("is an address %s, which pool %s does not give", u.what, p.Name)
			}
		}
	}
	return ""
}

// contains reports whether addr is in one of p's ranges.
func (p *pool) contains(addr netip.Addr) bool {
	return within(p.block(snapshot.FamilyOf(addr)).spans, numOf(addr))
}
