package allocator

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// choose chooses addresses for svc, which holds nothing that it could keep.
func (d *decision) choose(svc *service) ([]netip.Addr, *snapshot.Refusal) {
	if len(svc.req.addrs) > 0 {
		return d.explicit(svc)
	}
	if svc.req.several() {
		return d.pickEach(svc)
	}
	return d.pick(svc)
}

// target chooses what svc, which holds something, is to hold: nil if that is what
// it holds now, with why if it cannot have what it asks for.
func (d *decision) target(svc *service) ([]netip.Addr, *snapshot.Refusal) {
	if svc.notOfNodes != nil {
		return nil, svc.notOfNodes
	}
	if len(svc.req.addrs) > 0 {
		return d.explicit(svc)
	}
	if svc.req.several() {
		return d.pickEach(svc)
	}
	answer := svc.answering(svc.req.pool)
	if len(answer) == 0 {
		return d.pick(svc)
	}
	// A pool that shrinks, is renamed or goes must not move its holders (spec 16, 17).
	if len(answer) == len(svc.families) {
		if lost := d.lostFamily(svc); lost != 0 {
			if addrs := d.pickFamilies(svc, d.candidates(svc), svc.families); addrs != nil {
				return addrs, nil
			}
		}
		return answer, nil
	}
	if p := d.find(answer[0]).pool; p != nil && p.off == "" && p.serves(svc.Service, svc.ns) {
		if addrs := d.pickFamilies(svc, []*pool{p}, svc.families); addrs != nil {
			return addrs, nil
		}
	}
	// PreferDualStack gains a family from its own pool only: an address that clients know stays (spec 32).
	if svc.prefer {
		return nil, nil
	}
	return d.pick(svc)
}

// answering returns those held addresses that answer the request for the pool, "" for
// any: one of each wanted family, and in that pool. What fell out of its pool still counts
// for it, or a pool that shrinks would move its holders.
func (svc *service) answering(pool string) []netip.Addr {
	var out []netip.Addr
	for _, s := range svc.held {
		in := pool == ""
		switch {
		case in:
		case s.pool != nil:
			in = s.pool.Name == pool
		case s.record != nil:
			// It fell out of its pool's ranges, and was given from there.
			in = s.record.Pool == pool
		}
		if f := snapshot.FamilyOf(s.addr); in && svc.wants(f) && countFamily(out, f) == 0 {
			out = append(out, s.addr)
		}
	}
	return out
}

// lostFamily returns the family in which the pool of a PreferDualStack Service
// has nothing left, though the Service still holds its old address of it; 0 if
// there is none. Such a Service tries another dual-stack pool.
func (d *decision) lostFamily(svc *service) snapshot.Family {
	if !svc.prefer || svc.req.pool != "" || len(svc.held) != 2 {
		return 0
	}
	in, out := svc.held[0], svc.held[1]
	if in.pool == nil {
		in, out = out, in
	}
	f := snapshot.FamilyOf(out.addr)
	// While the pool still has addresses of the family, who fell out of it with one stays (spec 32).
	if in.pool == nil || out.pool != nil || len(in.pool.block(f).spans) > 0 {
		return 0
	}
	return f
}

// explicit checks the addresses that svc asks for, all or nothing. What is wrong
// who holds what is said before who is in the way.
func (d *decision) explicit(svc *service) ([]netip.Addr, *snapshot.Refusal) {
	if name := d.missing(svc); name != "" {
		return nil, d.notFound(name)
	}
	all := true
	for _, a := range svc.req.addrs {
		if p := d.pools.giving(a); p != nil && !svc.req.asks(p.Name) {
			return nil, refuse(ConflictingRequest, "%s is in pool %s, not in the requested pool %s", a, p.Name, svc.req.poolText())
		}
		// What it holds it keeps, whatever the pool gives by now.
		if svc.holds(a) {
			continue
		}
		all = false
		if why := d.mayGive(svc, a); why != nil {
			return nil, why
		}
	}
	// Several of one family are there to be of different networks.
	if a := svc.req.addrs; len(a) == 2 && familiesOf(a) == 2 && !svc.req.several() && d.pools.giving(a[0]) != d.pools.giving(a[1]) && !all {
		return nil, refuse(ConflictingRequest, "%s and %s are in different pools", a[0], a[1])
	}
	for _, a := range svc.req.addrs {
		if svc.holds(a) {
			continue
		}
		if why := d.mayJoin(svc, a); why != nil {
			return nil, why
		}
	}
	if !all {
		for _, p := range d.pools.all {
			if why := d.namespaceLimit(svc, p, d.pools.givenBy(p, svc.req.addrs)); why != nil {
				return nil, why
			}
		}
	}
	return svc.req.addrs, nil
}

func (d *decision) notFound(name string) *snapshot.Refusal {
	if len(d.pools.all) == 0 {
		return refuse(NoPool, "there is no AddressPool")
	}
	return refuse(PoolNotFound, "there is no AddressPool called %s", name)
}

// mayGive returns why no pool gives addr to svc, held or not; nil if a pool does.
func (d *decision) mayGive(svc *service, addr netip.Addr) *snapshot.Refusal {
	p := d.pools.giving(addr)
	switch {
	case len(d.pools.all) == 0:
		return refuse(NoPool, "there is no AddressPool")
	case p == nil && d.pools.skipping(addr) != "":
		return refuse(OutsidePools, "%s %s", addr, d.pools.skipping(addr))
	case p == nil && d.pools.containing(addr) != nil:
		return refuse(OutsidePools, "%s ends in .0 or .255, which pool %s avoids", addr, d.pools.containing(addr).Name)
	case p == nil:
		return refuse(OutsidePools, "%s is in no pool", addr)
	case p.off != "":
		return refuse(p.off, "%s", p.why())
	case !p.serves(svc.Service, svc.ns):
		return refuse(NotSelected, "pool %s does not select this Service", p.Name)
	case p.reservedFrom(svc, addr):
		return refuse(AddressReserved, "pool %s keeps %s for another Service", p.Name, addr)
	}
	return nil
}

// mayJoin tells why svc cannot have addr beside its holders; nil if it can.
func (d *decision) mayJoin(svc *service, addr netip.Addr) *snapshot.Refusal {
	if s := d.find(addr); s != nil {
		if f := s.fault(svc, false); f != fits {
			return s.refusal(svc, f)
		}
	}
	return nil
}

// candidates returns the pools that may give to svc, in order.
func (d *decision) candidates(svc *service) []*pool {
	var out []*pool
	for _, p := range d.pools.order {
		if d.reject(svc, p) == "" {
			out = append(out, p)
		}
	}
	return out
}

// reject tells why p may not give to svc; "" if it may.
func (d *decision) reject(svc *service, p *pool) snapshot.Reason {
	switch {
	case !svc.req.asks(p.Name):
		return PoolNotFound
	case p.off != "":
		return p.off
	case svc.req.pool == "" && !svc.req.several() && !p.AutoAssign:
		return NoPool
	case !p.serves(svc.Service, svc.ns):
		return NotSelected
	}
	return ""
}

// pick chooses addresses for svc from the pools that may give to it.
func (d *decision) pick(svc *service) ([]netip.Addr, *snapshot.Refusal) {
	if name := d.missing(svc); name != "" {
		return nil, d.notFound(name)
	}
	pools := d.candidates(svc)
	if addrs := d.pickAmong(svc, pools); addrs != nil {
		return addrs, nil
	}
	return nil, d.whyNot(svc, d.pools.order)
}

// pickAmong chooses addresses for svc from one of pools: of both families, or of one if
// that is enough; nil if none has them.
func (d *decision) pickAmong(svc *service, pools []*pool) []netip.Addr {
	if addrs := d.pickFamilies(svc, pools, svc.families); addrs != nil {
		return addrs
	}
	if svc.prefer {
		for _, f := range svc.families {
			if addrs := d.pickFamilies(svc, pools, only[f]); addrs != nil {
				return addrs
			}
		}
	}
	return nil
}

// pickFamilies chooses one address of each of fams, all from one of pools; nil
// if no pool has them. With a share key a place beside others of the key goes
// before a free address, in whichever pool it is.
func (d *decision) pickFamilies(svc *service, pools []*pool, fams []snapshot.Family) []netip.Addr {
	if svc.key != "" {
		if addrs := d.pickShared(svc, pools, fams); addrs != nil {
			return addrs
		}
	}
	var buf [2]netip.Addr
	for _, p := range pools {
		got := buf[:0]
		for _, f := range fams {
			if a, ok := d.pickOne(svc, p, f); ok {
				got = append(got, a)
			}
		}
		if len(got) == len(fams) && d.namespaceLimit(svc, p, got) == nil {
			return slices.Clone(got)
		}
	}
	return nil
}

// pickOne chooses an address of family f in p: the one that svc holds there
// already, one to share, or the lowest free one.
func (d *decision) pickOne(svc *service, p *pool, f snapshot.Family) (netip.Addr, bool) {
	// What it holds there comes before a lower free one: the status would change for nothing.
	if s := svc.heldWhere(f, func(o *pool) bool { return o == p }); s != nil {
		return s.addr, true
	}
	if s := d.joinable(svc, f, func(o *pool) bool { return o == p }); s != nil {
		return s.addr, true
	}
	if p.FromDHCP != nil {
		return d.pickLease(svc, p, f)
	}
	n, ok := p.block(f).pick(svc.Namespace)
	if !ok {
		return netip.Addr{}, false
	}
	return n.addr(f), true
}

// pickShared is pickFamilies with addresses that svc would share, all of them.
func (d *decision) pickShared(svc *service, pools []*pool, fams []snapshot.Family) []netip.Addr {
	var in *pool
	var got []netip.Addr
	for _, f := range fams {
		may := func(p *pool) bool { return slices.Contains(pools, p) && (in == nil || p == in) }
		s := svc.heldWhere(f, may)
		if s == nil {
			s = d.joinable(svc, f, may)
		}
		if s == nil {
			return nil
		}
		in, got = s.pool, append(got, s.addr)
	}
	if d.namespaceLimit(svc, in, got) != nil {
		return nil
	}
	return got
}

// ranks orders the reasons why no pool gave: the first one is said.
var ranks = []snapshot.Reason{NoLease, NamespaceLimit, PoolExhausted, NoPrefix, WrongFamily, PoolDisabled, PoolConflicting, PoolInvalid, NotSelected, NoPool}

// whyNot says why none of among gave to svc.
func (d *decision) whyNot(svc *service, among []*pool) *snapshot.Refusal {
	if len(d.pools.all) == 0 {
		return refuse(NoPool, "there is no AddressPool")
	}
	best := len(ranks) - 1
	var names []string
	for _, p := range among {
		if !svc.req.asks(p.Name) {
			continue
		}
		reason := d.reject(svc, p)
		if reason == "" {
			reason = d.lacks(svc, p)
		}
		i := slices.Index(ranks, reason)
		// The reason that the pool nearest to giving has: a pool for others must not hide a full one.
		if i < best {
			best, names = i, nil
		}
		if i == best {
			names = append(names, p.Name)
		}
	}
	why := &snapshot.Refusal{Reason: ranks[best], Message: whyNotText(ranks[best], svc, names)}
	// Who has one pool alone is told what that pool waits for.
	if f := d.followed[strings.Join(names, " ")]; f != nil && why.Reason == NoPrefix {
		why.Message += ". It says: " + f.condition.Message
	}
	if d.wish(svc, among); why.Reason == NoLease && len(svc.wishes) > 0 {
		p := svc.wishes[len(svc.wishes)-1]
		why.Message = fmt.Sprintf("pool %s leases addresses from a DHCP server, and has none for this Service yet: %s", p.Name, svc.waitsFor(p))
	}
	return why
}

// lacks tells what is wrong with p, which could serve svc but did not.
func (d *decision) lacks(svc *service, p *pool) snapshot.Reason {
	if p.FromDHCP != nil {
		return d.lacksLease(svc, p)
	}
	missing := 0
	for _, f := range svc.families {
		if len(p.block(f).spans) == 0 {
			missing++
		}
	}
	if missing > 0 && !svc.prefer || missing == len(svc.families) {
		// The Service is not wrong: the router has announced nothing so far.
		if p.FromPrefix != nil && svc.wants(snapshot.IPv6) && len(p.PrefixRanges(snapshot.PrefixCurrent)) == 0 {
			return NoPrefix
		}
		return WrongFamily
	}
	if p.MaxPerNamespace > 0 && p.byNamespace[svc.Namespace]+len(svc.families) > p.MaxPerNamespace {
		return NamespaceLimit
	}
	return PoolExhausted
}

// namesMax bounds how many pools a message lists.
const namesMax = 4

func whyNotText(reason snapshot.Reason, svc *service, names []string) string {
	list := strings.Join(names, ", ")
	if len(names) > namesMax {
		list = fmt.Sprintf("%s and %d more", strings.Join(names[:namesMax], ", "), len(names)-namesMax)
	}
	switch reason {
	case NamespaceLimit:
		return fmt.Sprintf("namespace %s has as many addresses as it may have of %s", svc.Namespace, list)
	case PoolExhausted:
		return fmt.Sprintf("no free %s address in %s", familyText(svc), list)
	case NoPrefix:
		return "pools that have no prefix yet, and so no IPv6 addresses: " + list
	case NoLease:
		return "pools without a lease of a DHCP server for this Service: " + list
	case WrongFamily:
		return fmt.Sprintf("no %s addresses in %s", familyText(svc), list)
	case PoolDisabled:
		return "disabled: " + list
	case PoolConflicting:
		return "pools that overlap something else and give nothing: " + list
	case PoolInvalid:
		return "pools whose addresses cannot be read, so that they give nothing: " + list
	case NotSelected:
		return "pools that do not select this Service: " + list
	}
	return "pools that give only on request (autoAssign is false): " + list
}

func familyText(svc *service) string {
	texts := make([]string, len(svc.families))
	for i, f := range svc.families {
		texts[i] = f.String()
	}
	if svc.prefer {
		return strings.Join(texts, " or ")
	}
	return strings.Join(texts, " and ")
}
