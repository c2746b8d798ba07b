package allocator

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// reserve takes the addresses that p keeps for Services by name, or has leased for them,
// out of what is free.
func (p *pool) reserve() {
	p.reserved = make(map[netip.Addr]snapshot.Ref, len(p.Reservations))
	for _, r := range p.Reservations {
		b := p.block(snapshot.FamilyOf(r.Addr))
		// An address outside of the ranges, or listed twice, is not one to keep.
		if _, twice := p.reserved[r.Addr]; !twice && b.free.remove(numOf(r.Addr)) {
			p.reserved[r.Addr] = r.Ref
			b.reserved++
		}
	}
	for _, l := range p.Leases { // of a pool that leases: it reserves nothing else
		if l.Addr.IsValid() && p.block(l.Family).free.remove(numOf(l.Addr)) {
			p.reserved[l.Addr] = l.Ref
			p.block(l.Family).reserved++
		}
	}
}

// reservedFrom reports whether p keeps addr for a Service other than svc.
func (p *pool) reservedFrom(svc *service, addr netip.Addr) bool {
	ref, is := p.reserved[addr]
	return is && ref != svc.Ref
}

// useReservations lets the Services that pools keep addresses for ask for these, if
// they hold nothing, ask for no address themselves and have one for each family. Who
// holds another address stays there: only its owner moves a Service.
func (d *decision) useReservations() {
	mine := map[snapshot.Ref][]netip.Addr{}
	for _, p := range d.pools.all {
		if p.off != "" {
			continue
		}
		for _, r := range p.Reservations {
			if svc := d.byRef[r.Ref]; svc != nil && p.reserved[r.Addr] == r.Ref && svc.mayUse(p, r.Addr, mine[r.Ref]) {
				mine[r.Ref] = append(mine[r.Ref], r.Addr)
			}
		}
	}
	for ref, addrs := range mine {
		svc := d.byRef[ref]
		slices.SortFunc(addrs, netip.Addr.Compare)
		// With one for a single family it is served as any other (story reservations-families).
		if len(addrs) == len(svc.families) {
			svc.req.addrs = addrs
		}
	}
}

// mayUse reports whether svc, for which p keeps addr, wants it beside those that it has
// found: one of each family, all of one pool.
func (svc *service) mayUse(p *pool, addr netip.Addr, found []netip.Addr) bool {
	if svc.idle || len(svc.held) > 0 || svc.nodePool != nil || svc.broken != nil || len(svc.req.addrs) > 0 || svc.req.several() || svc.req.pool != "" && svc.req.pool != p.Name || !p.serves(svc.Service, svc.ns) {
		return false
	}
	f := snapshot.FamilyOf(addr)
	return svc.wants(f) && !slices.ContainsFunc(found, func(a netip.Addr) bool { return snapshot.FamilyOf(a) == f || !p.contains(a) })
}
