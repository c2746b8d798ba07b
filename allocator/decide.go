package allocator

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// decision is one run of Decide.
type decision struct {
	*ledger
	now      time.Time
	snap     *snapshot.Snapshot
	services []service // by name
	ranked   []*service
	byRef    map[snapshot.Ref]*service
	nodes    *nodeLedger // nil: no pool gives the nodes' own addresses
	leavers  []*leaver   // the records of prefixes that pools do not give any more
	followed map[string]*following
	leased   time.Time // when a lease ends; zero: none does
}

// Decide decides which addresses each Service of ours holds. It reads s, which
// need not be sorted, and never changes it. Applying the Plan and deciding again
// changes nothing.
func Decide(s *snapshot.Snapshot, opt Options) *Plan { return decide(s, opt).plan() }

func decide(s *snapshot.Snapshot, opt Options) *decision {
	s, followed := follow(sorted(s), opt)
	s, ends := learnLeases(s, opt.Now)
	d := newDecision(s, opt)
	d.followed, d.leased = followed, ends
	d.blockLeavers()
	// Holders first: a pool that changes, or an older Service that waits, moves nobody.
	d.keepHolders()
	d.keepNodes()
	d.rehost()
	d.adopt()
	// After the holders: an address that a Service holds counts before one that is kept for it.
	d.useReservations()
	d.cool()
	d.moveToNodes()
	d.move()
	d.moveFromNodes()
	d.serve()
	d.keepLeavers()
	d.rewordRefusals()
	d.refuseRanges()
	return d
}

func newDecision(s *snapshot.Snapshot, opt Options) *decision {
	ps := newPools(s, opt.APIServers)
	records, leavers := partLeavers(s, ps)
	d := &decision{snap: s, now: opt.Now, ledger: newLedger(ps, records), leavers: leavers}
	d.cools = !opt.Now.IsZero()
	d.nodes = newNodeLedger(s, d.pools)
	n, nports := 0, 0
	for _, svc := range s.Services {
		if Ours(svc, opt) {
			n, nports = n+1, nports+len(svc.Ports)
		}
	}
	d.services, d.ranked = make([]service, n), make([]*service, 0, n)
	ports := make([]snapshot.HeldPort, 0, nports)
	d.byRef = make(map[snapshot.Ref]*service, n)
	n = 0
	for _, obj := range s.Services {
		if !Ours(obj, opt) {
			continue
		}
		svc := &d.services[n]
		// Creation times have whole seconds: the name decides between two of one second.
		svc.pos = int64(n)
		n++
		svc.fill(obj, s.Namespace(obj.Namespace), &ports)
		d.byRef[obj.Ref] = svc
		if !svc.idle {
			d.ranked = append(d.ranked, svc)
		}
	}
	slices.SortFunc(d.ranked, compareServices)
	return d
}

// sorted returns s itself if it is in order, or a copy that is.
func sorted(s *snapshot.Snapshot) *snapshot.Snapshot {
	if slices.IsSortedFunc(s.Services, func(a, b *snapshot.Service) int { return a.Ref.Compare(b.Ref) }) &&
		slices.IsSortedFunc(s.Addresses, func(a, b *snapshot.Address) int { return a.Addr.Compare(b.Addr) }) &&
		slices.IsSortedFunc(s.NodeAddresses, func(a, b *snapshot.Address) int { return a.Addr.Compare(b.Addr) }) &&
		slices.IsSortedFunc(s.Pools, func(a, b *snapshot.Pool) int { return cmp.Compare(a.Name, b.Name) }) &&
		slices.IsSortedFunc(s.Nodes, func(a, b *snapshot.Node) int { return cmp.Compare(a.Name, b.Name) }) &&
		slices.IsSortedFunc(s.Namespaces, func(a, b *snapshot.Namespace) int { return cmp.Compare(a.Name, b.Name) }) &&
		slices.IsSortedFunc(s.NodeStates, func(a, b *snapshot.NodeState) int { return cmp.Compare(a.Node, b.Node) }) &&
		slices.IsSortedFunc(s.ServiceCIDRs, func(a, b *snapshot.ServiceCIDR) int { return cmp.Compare(a.Name, b.Name) }) {
		return s
	}
	out := &snapshot.Snapshot{
		Services: slices.Clone(s.Services), Addresses: slices.Clone(s.Addresses), NodeAddresses: slices.Clone(s.NodeAddresses), Pools: slices.Clone(s.Pools),
		Nodes: slices.Clone(s.Nodes), Namespaces: slices.Clone(s.Namespaces), NodeStates: slices.Clone(s.NodeStates), ServiceCIDRs: slices.Clone(s.ServiceCIDRs),
	}
	out.Sort()
	return out
}

// move gives holders what they now ask for, the oldest first, until nobody moves
// any more: what one leaves, the oldest who waits for it gets.
func (d *decision) move() {
	q := &queue{waiting: map[netip.Addr][]*service{}}
	for _, svc := range d.ranked {
		if len(svc.held) > 0 && !svc.content() {
			q.join(svc)
		}
	}
	for svc := q.next(); svc != nil; svc = q.next() {
		d.released = d.released[:0]
		d.advance(svc)
		for _, s := range d.released {
			q.requeueFor(s)
		}
	}
}

// releaseHelps reports whether the release of s can help svc, which asks for any address.
func (s *slot) releaseHelps(svc *service) bool {
	f := snapshot.FamilyOf(s.addr)
	if svc.key != "" && s.key == svc.key {
		return true
	}
	if s.pool == nil || !svc.wants(f) {
		return false
	}
	_, ok := s.pool.block(f).pick(svc.Namespace)
	return ok
}

// content reports whether svc holds all that it can ask for, as far as that shows without
// a look at the pools.
func (svc *service) content() bool {
	// Most Services ask for nothing: 10,000 of them need no walk through the pools.
	if svc.broken != nil || len(svc.req.addrs) > 0 || svc.req.pool != "" || svc.req.several() || len(svc.held) != len(svc.families) {
		return false
	}
	if len(svc.held) == 2 && svc.held[0].addr.Is4() == svc.held[1].addr.Is4() {
		return false
	}
	for _, s := range svc.held {
		if s.pool == nil || !svc.wants(snapshot.FamilyOf(s.addr)) {
			return false
		}
	}
	return true
}

// advance moves svc to its target, if it can. The old address stays until the new
// one can be held.
func (d *decision) advance(svc *service) {
	// A typing error must not cost a working Service its address (spec 39c).
	if svc.refusal = svc.broken; svc.broken != nil {
		return
	}
	target, why := d.target(svc)
	svc.refusal = why
	if target == nil {
		return
	}
	for _, s := range slices.Clone(svc.held) {
		if !slices.Contains(target, s.addr) {
			d.release(svc, s)
		}
	}
	d.takeAll(svc, target)
}

// takeAll gives svc those of addrs that it does not hold.
func (d *decision) takeAll(svc *service, addrs []netip.Addr) {
	for _, a := range addrs {
		if !svc.holds(a) {
			d.assign(svc, d.slot(a))
		}
	}
}

// serve gives addresses to those that hold none: first who just lost a shared
// one, then who waits, in the order of their creation.
func (d *decision) serve() {
	// Who lost a shared address had one: clients know it (spec 39).
	for _, displaced := range []bool{true, false} {
		for _, svc := range d.ranked {
			if len(svc.held) > 0 || svc.nodePool != nil || svc.displaced != displaced {
				continue
			}
			if svc.refusal = svc.broken; svc.broken == nil {
				svc.refusal = d.serveOne(svc)
			}
		}
	}
}

// serveOne gives svc, which holds nothing, what it asks for, or returns why not.
func (d *decision) serveOne(svc *service) *snapshot.Refusal {
	notOfNodes, done := d.serveNodes(svc)
	if done {
		return notOfNodes
	}
	addrs, why := d.choose(svc)
	if why == nil {
		d.takeAll(svc, addrs)
	} else if notOfNodes != nil {
		return notOfNodes
	}
	return why
}

// rewordRefusals words the refusals about addresses in use again, now that it is settled
// who holds them: the next decision finds the same words. Who could not share
// and found no address of its own is told both.
func (d *decision) rewordRefusals() {
	for _, svc := range d.ranked {
		switch {
		case svc.refusal == nil:
		case svc.refusal.Reason == AddressInUse || svc.refusal.Reason == ShareRefused:
			if _, why := d.explicit(svc); why != nil {
				svc.refusal = why
			}
		case svc.refusal.Reason == PoolExhausted && d.shared[svc.key] != nil:
			if s := d.shared[svc.key].least(svc); s != nil {
				why := s.refusal(svc, s.fault(svc, false))
				svc.refusal = refuse(PoolExhausted, "%s; not shared: %s", svc.refusal.Message, why.Message)
			}
		}
	}
}
