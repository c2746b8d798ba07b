package allocator

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// several reports whether r names several pools, and wants addresses of each.
func (r *request) several() bool { return len(r.pools) > 0 }

// asks reports whether r lets the pool called name give.
func (r *request) asks(name string) bool {
	if r.several() {
		return slices.Contains(r.pools, name)
	}
	return r.pool == "" || r.pool == name
}

// poolText is what r calls the pools that it names.
func (r *request) poolText() string {
	if r.several() {
		return strings.Join(r.pools, ",")
	}
	return r.pool
}

// missing returns a pool that svc names and that does not exist, or "" if all exist.
func (d *decision) missing(svc *service) string {
	for _, name := range svc.req.pools {
		if d.pools.named(name) == nil {
			return name
		}
	}
	if svc.req.pool != "" && d.pools.named(svc.req.pool) == nil {
		return svc.req.pool
	}
	return ""
}

// pickEach chooses addresses for svc from each of the pools that it names, all or nothing.
// Those that it holds of a pool already stay, whatever the pool gives by now.
func (d *decision) pickEach(svc *service) (out []netip.Addr, why *snapshot.Refusal) {
	for _, name := range svc.req.pools {
		has := svc.answering(name)
		if len(has) == len(svc.families) {
			out = append(out, has...)
			continue
		}
		addrs, no := d.pickOf(svc, name)
		switch {
		case no == nil:
			out = append(out, addrs...)
		// What one pool became unable to give leaves the addresses of the others alone (story several-pools).
		case len(has) > 0 && svc.prefer:
			out = append(out, has...)
		default:
			return nil, no
		}
	}
	return out, nil
}

// pickOf is pickEach for one of the pools.
func (d *decision) pickOf(svc *service, name string) ([]netip.Addr, *snapshot.Refusal) {
	p := d.pools.named(name)
	switch {
	case p == nil:
		return nil, d.notFound(name)
	// The nodes' addresses are any number, and shared by port: "one of each pool" does not fit them.
	case p.Nodes != nil:
		return nil, refuse(ConflictingRequest, "pool %s gives the nodes' own addresses, and cannot be one of several", name)
	}
	if d.reject(svc, p) == "" {
		if addrs := d.pickAmong(svc, []*pool{p}); addrs != nil {
			return addrs, nil
		}
	}
	return nil, d.whyNot(svc, []*pool{p})
}

// room is how many addresses of family f svc asks for; 1 if it does not say.
func (svc *service) room(f snapshot.Family) int {
	return max(1, len(svc.req.pools), countFamily(svc.req.addrs, f))
}

// seats is the room of all families.
func (svc *service) seats() (n int) {
	for _, f := range svc.families {
		n += svc.room(f)
	}
	return n
}

func (svc *service) heldOfFamily(f snapshot.Family) (n int) {
	for _, s := range svc.held {
		n += index(snapshot.FamilyOf(s.addr) == f)
	}
	return n
}

func countFamily(addrs []netip.Addr, f snapshot.Family) (n int) {
	for _, a := range addrs {
		n += index(snapshot.FamilyOf(a) == f)
	}
	return n
}

// familiesOf is how many families addrs have.
func familiesOf(addrs []netip.Addr) int {
	return index(countFamily(addrs, snapshot.IPv4) > 0) + index(countFamily(addrs, snapshot.IPv6) > 0)
}

// givenBy returns those of addrs that p gives.
func (ps *pools) givenBy(p *pool, addrs []netip.Addr) (out []netip.Addr) {
	for _, a := range addrs {
		if ps.giving(a) == p {
			out = append(out, a)
		}
	}
	return out
}

// fitsBeside reports whether svc can hold addr, of p, beside other, which it holds or is
// to hold.
func (d *decision) fitsBeside(svc *service, p *pool, addr, other netip.Addr) bool {
	of := d.pools.giving(other)
	switch {
	case svc.req.several():
		return p != of || snapshot.FamilyOf(addr) != snapshot.FamilyOf(other)
	case len(svc.req.addrs) > 2, familiesOf(svc.req.addrs) < len(svc.req.addrs):
		return true // it names what it wants, of whichever pools
	}
	return p == of
}

// keeps reports whether svc keeps addr of the addresses that its records name. They may be
// more than it asks for: it asked for more before, or a controller was stopped in the
// middle of a move.
func (d *decision) keeps(svc *service, addr netip.Addr) bool {
	f := snapshot.FamilyOf(addr)
	var all []netip.Addr
	rank, pooled, named := map[netip.Addr]int{}, map[string]bool{}, 0
	for _, a := range svc.before {
		if snapshot.FamilyOf(a) != f {
			continue
		}
		all = append(all, a)
		inStatus := slices.ContainsFunc(svc.Ingress, func(i snapshot.Ingress) bool { return i.IP.Unmap() == a })
		named += index(inStatus)
		rank[a] = 4*index(slices.Contains(svc.req.addrs, a)) + index(inStatus)
		if p := d.pools.giving(a); p != nil && (svc.req.pool != "" || svc.req.several()) && svc.req.asks(p.Name) && !(svc.req.several() && pooled[p.Name]) {
			rank[a] += 2
			pooled[p.Name] = true
		}
	}
	slices.SortStableFunc(all, func(a, b netip.Addr) int { return cmp.Compare(rank[b], rank[a]) })
	room := svc.room(f)
	if svc.broken != nil {
		room = max(1, named) // what it asks for is not known: it keeps what clients know
	}
	return slices.Index(all, addr) < room
}

// poolsOf names the pools of addrs, which svc holds.
func (svc *service) poolsOf(addrs []netip.Addr) string {
	var names []string
	for _, a := range addrs {
		i := slices.IndexFunc(svc.held, func(s *slot) bool { return s.addr == a })
		if p := svc.held[i].pool; p != nil && !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	return strings.Join(names, ",")
}
