package allocator

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/dhcp"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// learnLeases brings the pools of s whose addresses are leased to what the nodes say of
// the leases at now, and returns when that changes with time alone. Without a time, leases
// do not end.
func learnLeases(s *snapshot.Snapshot, now time.Time) (out *snapshot.Snapshot, again time.Time) {
	out = s
	for i, p := range s.Pools {
		if p.FromDHCP == nil {
			continue
		}
		if out == s {
			next := *s
			out, next.Pools = &next, slices.Clone(s.Pools)
		}
		p = p.WithLeases(slices.Clone(p.Leases))
		for j := range p.Leases {
			p.Leases[j] = learn(out, p, p.Leases[j], now)
			// The next one sees what this one has by now: no two have one address.
			p = p.WithLeases(p.Leases)
			out.Pools[i] = p
			if l := p.Leases[j]; l.Addr.IsValid() && (again.IsZero() || l.Until.Before(again)) {
				again = l.Until
			}
		}
		out.Pools[i] = p
	}
	return out, again
}

// learn returns l, of p, as it is by the words of the nodes.
func learn(s *snapshot.Snapshot, p *snapshot.Pool, l snapshot.PoolLease, now time.Time) snapshot.PoolLease {
	said, ok := lastSaid(s, p, l)
	if ok {
		l.Message = said.Message
		switch {
		case said.Addr == l.Addr && l.Addr.IsValid():
			l.Server, l.Until = said.Server, said.Until
		case !said.Addr.IsValid():
			l = ended(l, l.Message)
		default:
			// A server may lease an address of a node, of pods or of another pool (story lease-hostile).
			if why := dhcp.Fault(s, p, l, said.Addr); why != "" {
				l = ended(l, fmt.Sprintf("the DHCP server %s leases %s, which is refused: %s", said.Server, said.Addr, why))
				break
			}
			l.Addr, l.Server, l.Until = said.Addr, said.Server, said.Until
		}
	}
	if l.Addr.IsValid() && !now.IsZero() && !now.Before(l.Until) {
		l = ended(l, fmt.Sprintf("the lease of %s ended, and no node says that it was renewed", l.Addr))
	}
	return l
}

func ended(l snapshot.PoolLease, why string) snapshot.PoolLease {
	l.Addr, l.Server, l.Until, l.Message = netip.Addr{}, netip.Addr{}, time.Time{}, why
	return l
}

// lastSaid returns what was said last of l. A node that is not ready says what was true
// when it was: another one keeps the lease by now, or soon.
func lastSaid(s *snapshot.Snapshot, p *snapshot.Pool, l snapshot.PoolLease) (last snapshot.NodeLease, ok bool) {
	for _, st := range s.NodeStates {
		if len(st.Leases) == 0 {
			continue
		}
		n := s.Node(st.Node)
		if n == nil || !n.Ready || n.Unheard || n.Deleting || !p.FromDHCP.Nodes.Matches(n.Labels) {
			continue
		}
		for _, said := range st.Leases {
			if said.Pool == p.Name && said.ID == l.ID && said.Family == l.Family && (!ok || said.At.After(last.At)) {
				last, ok = said, true
			}
		}
	}
	return last, ok
}

// pickLease returns the address of family f that p has leased for svc.
func (d *decision) pickLease(svc *service, p *pool, f snapshot.Family) (netip.Addr, bool) {
	for _, l := range p.Leases {
		if l.Ref == svc.Ref && l.Family == f && l.Addr.IsValid() && d.pools.giving(l.Addr) == p && d.mayJoin(svc, l.Addr) == nil {
			return l.Addr, true
		}
	}
	return netip.Addr{}, false
}

// lacksLease tells why svc has no address of p, whose addresses are leased.
func (d *decision) lacksLease(svc *service, p *pool) snapshot.Reason {
	missing := 0
	for _, f := range svc.families {
		missing += index(!slices.Contains(p.FromDHCP.Families, f))
	}
	has := slices.ContainsFunc(p.Leases, func(l snapshot.PoolLease) bool { return l.Ref == svc.Ref })
	switch {
	case missing > 0 && !svc.prefer, missing == len(svc.families):
		return WrongFamily
	case p.MaxPerNamespace > 0 && p.byNamespace[svc.Namespace]+len(svc.families)-missing > p.MaxPerNamespace:
		return NamespaceLimit
	case !has && len(p.Leases)+len(svc.families)-missing > snapshot.MostLeases:
		return PoolExhausted
	}
	return NoLease
}

// wish notes that svc waits for a lease of the first of among that could have one.
func (d *decision) wish(svc *service, among []*pool) {
	for _, p := range among {
		if p.FromDHCP != nil && svc.req.asks(p.Name) && d.reject(svc, p) == "" && d.lacksLease(svc, p) == NoLease {
			if !slices.Contains(svc.wishes, p) {
				svc.wishes = append(svc.wishes, p)
			}
			return
		}
	}
}

// uses reports whether svc has an address of p, or waits for one.
func (svc *service) uses(p *pool) bool {
	if svc.idle {
		return false
	}
	waits := svc.refusal != nil && svc.refusal.Reason == NoLease && slices.Contains(svc.wishes, p)
	return waits || len(svc.heldIn(p)) > 0
}

// leases returns the leases that p wants by this decision: what nobody needs any more is
// not among them, so that the node that keeps it releases it.
func (d *decision) leases(p *pool) (out []snapshot.PoolLease) {
	for _, l := range p.Leases {
		if d.needs(p, l) {
			out = append(out, l)
		}
	}
	for _, svc := range d.ranked {
		if !svc.uses(p) {
			continue
		}
		for _, f := range svc.families {
			l := snapshot.PoolLease{Ref: svc.Ref, Family: f, ID: svc.UID}
			there := slices.ContainsFunc(out, func(o snapshot.PoolLease) bool { return o.Compare(l) == 0 })
			// Services that share an address share its lease: a second one would be of another address.
			shares := svc.heldWhere(f, func(o *pool) bool { return o == p }) != nil
			if !there && !shares && slices.Contains(p.FromDHCP.Families, f) && len(out) < snapshot.MostLeases {
				out = append(out, l)
			}
		}
	}
	slices.SortFunc(out, snapshot.PoolLease.Compare)
	return out
}

// needs reports whether somebody holds the address of l, or waits for one by it.
func (d *decision) needs(p *pool, l snapshot.PoolLease) bool {
	if s := d.find(l.Addr); l.Addr.IsValid() && s != nil && len(s.holders) > 0 {
		return true
	}
	svc := d.byRef[l.Ref]
	return svc != nil && svc.uses(p) && svc.wants(l.Family) && svc.heldWhere(l.Family, func(o *pool) bool { return o == p }) == nil
}

// planLeases adds to out the leases of p. Its counters are of these, and of those that it
// may still want: a lease that nobody needs any more is as good as released.
func (d *decision) planLeases(p *pool, out *PoolOutcome) {
	out.Leases = d.leases(p)
	out.Leasing = leasing(out.Leases)
	room := int64(snapshot.MostLeases - len(out.Leases))
	for _, f := range p.FromDHCP.Families {
		c := &out.Status.IPv4
		if f == snapshot.IPv6 {
			c = &out.Status.IPv6
		}
		c.Total, c.Free = room, room
		if p.off != "" {
			c.Free = 0
		}
		for _, l := range out.Leases {
			if l.Family == f && l.Addr.IsValid() {
				c.Total++
			}
		}
	}
}

// leasing is the condition of a pool that wants leases.
func leasing(leases []snapshot.PoolLease) snapshot.Condition {
	var wrong []snapshot.PoolLease
	has := 0
	for _, l := range leases {
		has += index(l.Addr.IsValid())
		if l.Message != "" || !l.Addr.IsValid() {
			wrong = append(wrong, l)
		}
	}
	c := snapshot.Condition{Status: "True", Reason: string(LeasesHeld), Message: fmt.Sprintf("%d of %d addresses are leased", has, len(leases))}
	if len(wrong) == 0 {
		return c
	}
	c.Status, c.Reason = "False", string(LeasesMissing)
	c.Message += fmt.Sprintf(". %s for %s: %s", wrong[0].Family, wrong[0].Ref, waitText(wrong[0]))
	if len(wrong) > 1 {
		c.Message += fmt.Sprintf("; and %d more", len(wrong)-1)
	}
	return c
}

// waitText says what a lease waits for.
func waitText(l snapshot.PoolLease) string {
	if l.Message != "" {
		return l.Message
	}
	return notYet
}

// notYet is what a lease waits for that no node has said anything of.
const notYet = "no node has leased it yet"

// waitsFor says what svc waits for in p.
func (svc *service) waitsFor(p *pool) string {
	for _, l := range p.Leases {
		if l.Ref == svc.Ref && !l.Addr.IsValid() {
			return waitText(l)
		}
	}
	return notYet
}

// leaseEnded reports whether the record of s has its address by a lease that its pool does
// not have any more: the server may lease it to others. A pool may have the address in
// spec.addresses by now.
func (s *slot) leaseEnded() bool {
	if s.record.Lease == "" {
		return false
	}
	// Nobody renews the leases of a pool that is deleted (story lease-pool-deleted).
	if s.pool == nil {
		return true
	}
	l, ok := s.pool.LeaseOf(s.addr)
	return ok && l.ID != s.record.Lease
}

// lapsing returns what is wrong with the lease of an address that svc holds.
func (s *slot) lapsing() (snapshot.Refusal, bool) {
	if s.pool == nil {
		return snapshot.Refusal{}, false
	}
	l, ok := s.pool.LeaseOf(s.addr)
	if !ok || l.Message == "" {
		return snapshot.Refusal{}, false
	}
	return *refuse(LeaseLapsing, "%s is leased until %s, but %s", s.addr, l.Until.UTC().Format(time.RFC3339), l.Message), true
}
