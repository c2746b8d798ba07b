package allocator

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// leaver is a record with an address of a prefix that its pool gave addresses of before.
// Its holders keep it, beside the address that they get now, while the prefix is Leaving.
type leaver struct {
	record  *snapshot.Address
	pool    *pool
	leaving bool // otherwise it is let go
	holders []*service
}

// partLeavers parts the records in those that the rest of the decision knows and those
// of prefixes that are Leaving or Former.
func partLeavers(s *snapshot.Snapshot, ps *pools) (records []*snapshot.Address, leavers []*leaver) {
	if !slices.ContainsFunc(s.Pools, func(p *snapshot.Pool) bool { return len(p.Prefixes) > 0 }) {
		return s.Addresses, nil
	}
	for _, a := range s.Addresses {
		p := ps.named(a.Pool)
		// A pool that is gone has no prefixes: its holders stay, as those of any pool.
		if p == nil {
			records = append(records, a)
			continue
		}
		_, leaving := p.InPrefix(snapshot.PrefixLeaving, a.Addr)
		_, former := p.InPrefix(snapshot.PrefixFormer, a.Addr)
		// The pool may list the address in spec.addresses too: then it is not a prefix's.
		if !leaving && !former || ps.giving(a.Addr) == p {
			records = append(records, a)
			continue
		}
		leavers = append(leavers, &leaver{record: a, pool: p, leaving: leaving})
	}
	return records, leavers
}

// blockLeavers keeps the addresses of leavers from everybody who does not hold them
// already. Another pool may contain them.
func (d *decision) blockLeavers() {
	for _, l := range d.leavers {
		s := &slot{addr: l.record.Addr, record: l.record, pool: d.pools.giving(l.record.Addr)}
		// Nobody else gets an address of a former prefix (story prefix-not-yet).
		d.fresh[s.addr] = s
		d.block(s)
	}
}

// rehost gives the holders of leavers the address of the current prefix with the same last
// 64 bits, so that names which are made of these stay right. Who cannot have it gets
// another one as those do who wait.
func (d *decision) rehost() {
	for _, l := range d.leavers {
		for _, h := range l.record.Holders {
			svc := d.byRef[h.Ref]
			// What it has already, or had of nodes, comes first: only those without an address are rehosted.
			if svc == nil || svc.UID != h.UID || svc.idle || !svc.wants(snapshot.IPv6) || svc.heldOf(snapshot.IPv6) != nil || len(svc.nodesBefore) > 0 {
				continue
			}
			if len(svc.req.addrs) > 0 || svc.req.pool != "" && svc.req.pool != l.pool.Name {
				continue // it asks for something else
			}
			for _, k := range l.pool.Prefixes {
				if a := snapshot.Rehost(k.Prefix, l.record.Addr); k.State == snapshot.PrefixCurrent && d.mayHave(svc, l.pool, a) {
					d.takeAll(svc, []netip.Addr{a})
				}
			}
		}
	}
}

// mayHave reports whether svc may hold addr of p.
func (d *decision) mayHave(svc *service, p *pool, addr netip.Addr) bool {
	return d.pools.giving(addr) == p && d.mayGive(svc, addr) == nil && d.mayJoin(svc, addr) == nil && d.namespaceLimit(svc, p, []netip.Addr{addr}) == nil
}

// keepLeavers settles who keeps which leaver, once it is settled what everybody else holds.
func (d *decision) keepLeavers() {
	for _, l := range d.leavers {
		for _, h := range l.record.Holders {
			svc := d.byRef[h.Ref]
			if svc == nil || svc.UID != h.UID {
				continue
			}
			if !l.keeps(svc, h) {
				svc.left = append(svc.left, l.record.Addr)
				continue
			}
			l.holders = append(l.holders, svc)
			svc.leaving = append(svc.leaving, leavingAddr{l.record.Addr, l.pool.Name})
		}
	}
}

// leavingAddr is an address that a Service has for a while yet, and its pool.
type leavingAddr struct {
	netip.Addr
	pool string
}

// leavingIn returns what svc has of p for a while yet.
func (svc *service) leavingIn(p *pool) (out []netip.Addr) {
	for _, l := range svc.leaving {
		if l.pool == p.Name {
			out = append(out, l.Addr)
		}
	}
	return out
}

// keeps reports whether svc, which is the holder h of l, keeps the address. It does not if
// it has moved to another pool, or if its new ports may be those of another holder.
func (l *leaver) keeps(svc *service, h snapshot.Holder) bool {
	if !l.leaving || svc.idle || svc.nodePool != nil || !svc.wants(snapshot.IPv6) {
		return false
	}
	// It asked for another pool: the owner moved it, not the network.
	if s := svc.heldOf(snapshot.IPv6); s != nil && s.pool != l.pool {
		return false
	}
	return len(l.record.Holders) == 1 || slices.Equal(h.Ports, svc.ports)
}

// isLeaver reports whether addr is one of leavers.
func (d *decision) isLeaver(addr netip.Addr) bool {
	return slices.ContainsFunc(d.leavers, func(l *leaver) bool { return l.record.Addr == addr })
}

// planLeavers adds to p the records of leavers that somebody keeps, and who loses one.
func (d *decision) planLeavers(p *Plan) {
	for _, l := range d.leavers {
		w := AddressWant{Addr: l.record.Addr, Pool: l.record.Pool, ShareKey: l.record.ShareKey, ShareGroup: l.record.ShareGroup}
		for _, h := range l.record.Holders {
			i := slices.IndexFunc(l.holders, func(o *service) bool { return o.Ref == h.Ref && o.UID == h.UID })
			if i < 0 {
				p.Releases = append(p.Releases, Release{l.record.Addr, h})
				continue
			}
			// Its ports may be others by now. A single holder may change them.
			h.Ports = l.holders[i].ports[:min(len(l.holders[i].ports), portsMax)]
			w.Holders = append(w.Holders, h)
		}
		if len(w.Holders) > 0 {
			slices.SortFunc(w.Holders, func(a, b snapshot.Holder) int {
				return cmp.Or(a.Ref.Compare(b.Ref), cmp.Compare(a.UID, b.UID))
			})
			p.Addresses = append(p.Addresses, w)
		}
	}
	if len(d.leavers) > 0 {
		slices.SortFunc(p.Addresses, func(a, b AddressWant) int { return a.Addr.Compare(b.Addr) })
	}
}
