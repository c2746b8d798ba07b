package allocator

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// hold lets the holders of the records keep their addresses. Who edited itself
// out of a shared address loses it; the others stay.
func (d *decision) hold() {
	live := make([]*claim, 0, len(d.claims)) // the holders that are left, record by record
	ends := make([]int, len(d.recorded))
	for i := range d.recorded {
		live = d.living(d.recorded[i].record, live)
		ends[i] = len(live)
	}
	start := 0
	for i := range d.recorded {
		s := &d.recorded[i]
		d.admit(s, live[start:ends[i]])
		if s.record.Deleting && start == ends[i] {
			d.block(s)
		}
		start = ends[i]
	}
}

// living appends the holders of a that may still hold something.
func (d *decision) living(a *snapshot.Address, to []*claim) []*claim {
	for _, h := range a.Holders {
		c := d.byRef[h.Ref]
		if c == nil || c.svc.UID != h.UID {
			continue
		}
		if c.before == nil {
			c.before = c.beforeBuf[:0]
		}
		c.before = append(c.before, a.Addr)
		if c.idle {
			continue
		}
		if c.broken != nil && c.key == "" {
			c.key = a.ShareKey
		}
		c.double = c.double || len(c.before) > 2 || len(c.before) == 2 && c.before[0].Is4() == c.before[1].Is4()
		to = append(to, c)
	}
	return to
}

// admit gives s to those of live that may keep it.
func (d *decision) admit(s *slot, live []*claim) {
	if len(live) > 1 {
		d.rankHolders(s.record, live)
	}
	for _, c := range live {
		if c.double && d.best(c, snapshot.FamilyOf(s.addr)) != s.addr {
			continue
		}
		if s.fault(c, true) != fits {
			c.displaced = true
			continue
		}
		d.take(c, s)
	}
}

// rankHolders sorts the holders of a shared address: who is as the record says,
// then who can share with more of the others, then by age.
func (d *decision) rankHolders(a *snapshot.Address, live []*claim) {
	type group struct{ key, backend string }
	peers := map[group]int{}
	for _, c := range live {
		peers[group{c.key, c.backend}]++
	}
	slices.SortFunc(live, func(x, y *claim) int {
		return cmp.Or(cmp.Compare(index(x.edited(a)), index(y.edited(a))),
			cmp.Compare(peers[group{y.key, y.backend}], peers[group{x.key, x.backend}]), compareClaims(x, y))
	})
}

// edited tells whether c is no longer the holder that the record describes.
func (c *claim) edited(a *snapshot.Address) bool {
	if c.key != a.ShareKey || c.backend != a.Backend {
		return true
	}
	for _, h := range a.Holders {
		if h.UID == c.svc.UID {
			return !slices.Equal(h.Ports, c.ports)
		}
	}
	return true
}

// best chooses among several records of one family, which a controller that
// was stopped in the middle of a move leaves: what the Service asks for, what
// its status names, the lowest.
func (d *decision) best(c *claim, f snapshot.Family) netip.Addr {
	var best netip.Addr
	rank := 0
	for _, a := range c.before {
		if snapshot.FamilyOf(a) != f {
			continue
		}
		r := 1 + 4*index(slices.Contains(c.req.addrs, a)) + index(slices.ContainsFunc(c.svc.Ingress, func(i snapshot.Ingress) bool { return i.IP.Unmap() == a }))
		if p := d.pools.of(a); p != nil && p.Name == c.req.pool {
			r += 2
		}
		if r > rank {
			best, rank = a, r
		}
	}
	return best
}

// adopt makes holders of Services whose status names an address of a pool that
// nobody holds: records that were wiped, or Services of another allocator.
func (d *decision) adopt() {
	for _, c := range d.ranked {
		if len(c.svc.Ingress) == 0 || c.displaced || len(c.held) >= len(c.families) {
			continue
		}
		d.adoptOne(c)
	}
}

func (d *decision) adoptOne(c *claim) {
	var found []netip.Addr
	var why *snapshot.Refusal
	for _, in := range c.svc.Ingress {
		ip := in.IP.Unmap()
		f := snapshot.FamilyOf(ip)
		if !ip.IsValid() || !c.wants(f) || c.heldOf(f) != nil || slices.ContainsFunc(found, func(a netip.Addr) bool { return snapshot.FamilyOf(a) == f }) {
			continue
		}
		if no := d.adoptable(c, ip, found); no != nil {
			why = cmp.Or(why, no)
			continue
		}
		found = append(found, ip)
	}
	if len(c.held) == 0 && len(found) < len(c.families) && !c.prefer {
		found = nil
	}
	if len(found) > 0 {
		d.takeAll(c, found)
		c.adopted = true
		return
	}
	if why != nil && len(c.held) == 0 && len(d.pools.all) > 0 {
		c.warnings = append(slices.Clip(c.warnings), snapshot.Refusal{Reason: StatusIgnored,
			Message: fmt.Sprintf("the status names an address without a record, which cannot be adopted: %s", why.Message)})
	}
}

// adoptable tells why c cannot have addr for its status; nil if it can. A
// disabled pool keeps holders, so it lets them be adopted too.
func (d *decision) adoptable(c *claim, addr netip.Addr, found []netip.Addr) *snapshot.Refusal {
	p := d.pools.of(addr)
	if why := d.mayGive(c, addr); why != nil && !(why.Reason == PoolDisabled && p.serves(c.svc, c.ns)) {
		return why
	}
	if why := d.mayJoin(c, addr); why != nil {
		return why
	}
	for _, s := range c.held {
		if s.pool != p {
			return refuse(ConflictingRequest, "%s is not in the pool of %s", addr, s.addr)
		}
	}
	for _, a := range found {
		if d.pools.of(a) != p {
			return refuse(ConflictingRequest, "%s is not in the pool of %s", addr, a)
		}
	}
	return nil
}
