package allocator

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// decision is one run of Decide.
type decision struct {
	*ledger
	snap   *snapshot.Snapshot
	claims []claim // by name
	ranked []*claim
	byRef  map[snapshot.Ref]*claim
}

// Decide decides which addresses each Service of ours holds. It reads s, which
// need not be sorted, and never changes it. Applying the Plan and deciding again
// changes nothing.
func Decide(s *snapshot.Snapshot, opt Options) *Plan { return decide(s, opt).plan() }

func decide(s *snapshot.Snapshot, opt Options) *decision {
	d := newDecision(sorted(s), opt)
	d.hold()
	d.adopt()
	d.move()
	d.serve()
	d.blame()
	return d
}

func newDecision(s *snapshot.Snapshot, opt Options) *decision {
	d := &decision{snap: s, ledger: newLedger(newPools(s, opt.Reserved), s.Addresses)}
	n, nports := 0, 0
	for _, svc := range s.Services {
		if Ours(svc, opt) {
			n, nports = n+1, nports+len(svc.Ports)
		}
	}
	d.claims, d.ranked = make([]claim, n), make([]*claim, 0, n)
	ports := make([]snapshot.HeldPort, 0, nports)
	d.byRef = make(map[snapshot.Ref]*claim, n)
	n = 0
	for _, svc := range s.Services {
		if !Ours(svc, opt) {
			continue
		}
		c := &d.claims[n]
		c.pos = int64(n)
		n++
		c.fill(svc, s.Namespace(svc.Namespace), &ports)
		d.byRef[svc.Ref] = c
		if !c.idle {
			d.ranked = append(d.ranked, c)
		}
	}
	slices.SortFunc(d.ranked, compareClaims)
	return d
}

// sorted returns s itself if it is in order, or a copy that is.
func sorted(s *snapshot.Snapshot) *snapshot.Snapshot {
	if slices.IsSortedFunc(s.Services, func(a, b *snapshot.Service) int { return a.Ref.Compare(b.Ref) }) &&
		slices.IsSortedFunc(s.Addresses, func(a, b *snapshot.Address) int { return a.Addr.Compare(b.Addr) }) &&
		slices.IsSortedFunc(s.Pools, func(a, b *snapshot.Pool) int { return cmp.Compare(a.Name, b.Name) }) &&
		slices.IsSortedFunc(s.Nodes, func(a, b *snapshot.Node) int { return cmp.Compare(a.Name, b.Name) }) &&
		slices.IsSortedFunc(s.Namespaces, func(a, b *snapshot.Namespace) int { return cmp.Compare(a.Name, b.Name) }) &&
		slices.IsSortedFunc(s.ServiceCIDRs, func(a, b *snapshot.ServiceCIDR) int { return cmp.Compare(a.Name, b.Name) }) {
		return s
	}
	out := &snapshot.Snapshot{
		Services: slices.Clone(s.Services), Addresses: slices.Clone(s.Addresses), Pools: slices.Clone(s.Pools),
		Nodes: slices.Clone(s.Nodes), Namespaces: slices.Clone(s.Namespaces), ServiceCIDRs: slices.Clone(s.ServiceCIDRs),
	}
	out.Sort()
	return out
}

// move gives holders what they now ask for, the oldest first, until nobody moves
// any more: what one leaves, the oldest who waits for it gets.
func (d *decision) move() {
	q := &queue{waiting: map[netip.Addr][]*claim{}}
	for _, c := range d.ranked {
		if len(c.held) > 0 && !c.content() {
			q.join(c)
		}
	}
	for c := q.next(); c != nil; c = q.next() {
		d.released = d.released[:0]
		d.advance(c)
		for _, s := range d.released {
			q.stir(s)
		}
	}
}

// stirs tells whether the release of s can help c, which asks for any address.
func (s *slot) stirs(c *claim) bool {
	f := snapshot.FamilyOf(s.addr)
	if c.key != "" && s.key == c.key {
		return true
	}
	if s.pool == nil || !c.wants(f) {
		return false
	}
	_, ok := s.pool.block(f).free.lowest()
	return ok
}

// content tells in short that c holds all it can ask for.
func (c *claim) content() bool {
	if c.broken != nil || len(c.req.addrs) > 0 || c.req.pool != "" || len(c.held) != len(c.families) {
		return false
	}
	for _, s := range c.held {
		if s.pool == nil || !c.wants(snapshot.FamilyOf(s.addr)) {
			return false
		}
	}
	return true
}

// advance moves c to its target, if it can. The old address stays until the new
// one can be held.
func (d *decision) advance(c *claim) {
	if c.refusal = c.broken; c.broken != nil {
		return
	}
	target, why := d.target(c)
	c.refusal = why
	if target == nil {
		return
	}
	for _, s := range slices.Clone(c.held) {
		if !slices.Contains(target, s.addr) {
			d.drop(c, s)
		}
	}
	d.takeAll(c, target)
}

// takeAll gives c those of addrs that it does not hold.
func (d *decision) takeAll(c *claim, addrs []netip.Addr) {
	for _, a := range addrs {
		if !c.holds(a) {
			d.take(c, d.slot(a))
		}
	}
}

// serve gives addresses to those that hold none: first who just lost a shared
// one, then who waits, in the order of their creation.
func (d *decision) serve() {
	for _, displaced := range []bool{true, false} {
		for _, c := range d.ranked {
			if len(c.held) > 0 || c.displaced != displaced {
				continue
			}
			if c.refusal = c.broken; c.broken != nil {
				continue
			}
			var addrs []netip.Addr
			if addrs, c.refusal = d.wish(c); c.refusal == nil {
				d.takeAll(c, addrs)
			}
		}
	}
}

// blame words the refusals about addresses in use again, now that it is settled
// who holds them: the next decision finds the same words. Who could not share
// and found no address of its own is told both.
func (d *decision) blame() {
	for _, c := range d.ranked {
		switch {
		case c.refusal == nil:
		case c.refusal.Reason == AddressInUse || c.refusal.Reason == ShareRefused:
			if _, why := d.explicit(c); why != nil {
				c.refusal = why
			}
		case c.refusal.Reason == PoolExhausted && d.shared[c.key] != nil:
			if s := d.shared[c.key].least(c); s != nil {
				why := s.refusal(c, s.fault(c, false))
				c.refusal = refuse(PoolExhausted, "%s; not shared: %s", c.refusal.Message, why.Message)
			}
		}
	}
}
