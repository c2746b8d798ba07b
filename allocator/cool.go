package allocator

import (
	"net/netip"
	"slices"
	"sort"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// cooling is an address of a pool that its former namespace had until a moment ago.
// Others get it only when the pool has nothing else.
type cooling struct {
	num
	namespace string
}

// freedSince returns who held s last and since when nobody does. A holder that is
// gone without a trace has held it until now.
func (d *decision) freedSince(s *slot) snapshot.Freed {
	// The record is the only memory: a controller that restarts counts on.
	if f := s.record.Freed; len(s.record.Holders) == 0 {
		return f
	}
	return snapshot.Freed{Namespace: s.record.Holders[0].Namespace, At: d.now.Truncate(time.Second)}
}

// coolsUntil returns when s has cooled down; zero if it does not cool.
func (d *decision) coolsUntil(s *slot) time.Time {
	if s.pool == nil || s.pool.CoolDown == 0 || d.now.IsZero() || s.blocked || len(s.holders) > 0 {
		return time.Time{}
	}
	if f := d.freedSince(s); f.Namespace != "" && f.At.Add(s.pool.CoolDown).After(d.now) {
		return f.At.Add(s.pool.CoolDown)
	}
	return time.Time{}
}

// cool keeps the addresses that nobody holds any more from other namespaces.
func (d *decision) cool() {
	for i := range d.recorded {
		if s := &d.recorded[i]; !d.coolsUntil(s).IsZero() {
			b := s.pool.block(snapshot.FamilyOf(s.addr))
			// A reserved address was not free: only its Service gets it.
			if b.free.remove(numOf(s.addr)) {
				b.keepFor(d.freedSince(s).Namespace, numOf(s.addr))
			}
		}
	}
}

// keepFor lets n cool down.
func (b *block) keepFor(namespace string, n num) {
	i := sort.Search(len(b.cooling), func(i int) bool { return n.less(b.cooling[i].num) })
	b.cooling = slices.Insert(b.cooling, i, cooling{n, namespace})
}

// pick returns the address that a Service of namespace gets: the lowest that is free
// or was the namespace's own, or else the lowest that cools down.
func (b *block) pick(namespace string) (num, bool) {
	best, ok := b.free.lowest()
	for _, c := range b.cooling {
		// Its own former address misleads no client of another tenant.
		if c.namespace == namespace && (!ok || c.less(best)) {
			best, ok = c.num, true
		}
	}
	// A pool that has nothing else gives it at once: a Service without an address helps nobody.
	if !ok && len(b.cooling) > 0 {
		return b.cooling[0].num, true
	}
	return best, ok
}

// take takes n out of what is free.
func (b *block) take(n num) {
	if b.free.remove(n) {
		return
	}
	b.cooling = slices.DeleteFunc(b.cooling, func(c cooling) bool { return c.num == n })
}

// planCooling adds to p the records of the addresses that cool down.
func (d *decision) planCooling(p *Plan) {
	for i := range d.recorded {
		s := &d.recorded[i]
		until := d.coolsUntil(s)
		if until.IsZero() {
			continue
		}
		p.Addresses = append(p.Addresses, AddressWant{Addr: s.addr, Pool: s.pool.Name, Freed: d.freedSince(s)})
		if p.Again.IsZero() || until.Before(p.Again) {
			p.Again = until
		}
	}
	if !p.Again.IsZero() {
		slices.SortFunc(p.Addresses, func(a, b AddressWant) int { return a.Addr.Compare(b.Addr) })
	}
}

// namespaceLimit returns why svc may not hold more of p; nil if it may hold addrs.
func (d *decision) namespaceLimit(svc *service, p *pool, addrs []netip.Addr) *snapshot.Refusal {
	if p == nil || p.MaxPerNamespace == 0 {
		return nil
	}
	has, more := p.byNamespace[svc.Namespace], 0
	for _, a := range addrs {
		if s := d.find(a); s == nil || s.ofNamespace(svc.Namespace) == 0 {
			more++
		}
	}
	for _, s := range svc.held {
		if s.pool == p && !slices.Contains(addrs, s.addr) && s.ofNamespace(svc.Namespace) == 1 {
			has-- // it would be given back
		}
	}
	// Who has more than a new limit keeps them: a limit moves nobody (spec 39i).
	if more == 0 || has+more <= p.MaxPerNamespace {
		return nil
	}
	return refuse(NamespaceLimit, "pool %s gives at most %d addresses to a namespace, and %s has %d of them", p.Name, p.MaxPerNamespace, svc.Namespace, p.byNamespace[svc.Namespace])
}

// ofNamespace counts the holders of s in namespace.
func (s *slot) ofNamespace(namespace string) (n int) {
	for _, h := range s.holders {
		if h.Namespace == namespace {
			n++
		}
	}
	return n
}

// note notes that namespace has n more addresses of p.
func (p *pool) note(namespace string, n int) {
	if p == nil || p.MaxPerNamespace == 0 {
		return
	}
	if p.byNamespace == nil {
		p.byNamespace = map[string]int{}
	}
	p.byNamespace[namespace] += n
}
