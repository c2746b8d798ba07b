package announcer

import (
	"iter"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Decider is Decide with a memory: it decides again only about the addresses of
// which something changed. The result never depends on the memory. It may be the
// same value as the last one, and must not be changed.
type Decider struct {
	in       Input // of the last decision
	election *election
	last     []decided              // of each of its addresses
	held     map[snapshot.Ref][]int // the places in last of what a Service holds
	plan     Plan
	rankings map[netip.Addr][]uint16 // of the nodes called names
	names    []string
	looked   int // how often it looked at an address
}

// decided is what was decided of one address.
type decided struct {
	addr  *snapshot.Address
	known bool // there is an outcome
	ready bool // Input.Ready[addr] at that time
	apart bool // its siblings mattered, or which node serves most of its Services
	outcome
}

// Decide is like the function Decide.
func (d *Decider) Decide(in Input) Plan {
	changes := in.Changes.From(d.in.Snapshot, in.Snapshot)
	known := d.election != nil && d.knows(in, changes)
	before, fixed := d.election, d.election != nil && d.fixed(in, changes)
	// Most calls come for one changed EndpointSlice. A walk over 10,000 VIPs for it took 168 ms.
	// The map Ready is made again only when something in it changed, so its identity is enough.
	few := known && len(changes.Addresses) == 0 && reflect.ValueOf(in.Ready).Pointer() == reflect.ValueOf(d.in.Ready).Pointer()
	d.prepare(in, known)
	places := d.touched(changes)
	if !few {
		// A lost node is what clients wait for. After 2 % of 5,000 nodes were lost, with 1,000
		// addresses, this took 6 ms and the whole election 1.9 s.
		if !known && fixed {
			known = d.forget(before)
		}
		places = d.affected(in, changes, known)
	}
	same := known && len(changes.Addresses) == 0
	for i := range places {
		one := &d.last[i]
		was := one.outcome
		one.outcome = d.election.decide(one.addr)
		one.apart = d.election.siblings(one.addr) != nil || len(one.addr.Holders) > 1
		same = same && reflect.DeepEqual(was, one.outcome)
	}
	// What follows knows by the identity of the lists that nothing changed, and walks no address.
	if !same {
		d.plan = joined(d.last)
	}
	return d.plan
}

// touched iterates over the places in last of what the Services hold that changed.
func (d *Decider) touched(changes snapshot.Changes) iter.Seq[int] {
	return func(yield func(int) bool) {
		for _, ref := range changes.Services {
			for _, i := range d.held[ref] {
				d.looked++
				if !yield(i) {
					return
				}
			}
		}
	}
}

// affected iterates over the places in last of the addresses to decide again.
// Before that it makes last the places of in's addresses.
func (d *Decider) affected(in Input, changes snapshot.Changes, known bool) iter.Seq[int] {
	if !known || len(changes.Addresses) > 0 {
		d.last = d.align(in.Snapshot.Addresses, known)
		d.hold()
	}
	return func(yield func(int) bool) {
		d.looked += len(d.last)
		for i := range d.last {
			one := &d.last[i]
			is := in.Ready[one.addr.Addr]
			// The engine confirms an address without a change of the Snapshot.
			if again := !one.known || one.ready != is; again {
				one.known, one.ready = true, is
				if !yield(i) {
					return
				}
			}
		}
		d.touched(changes)(yield)
	}
}

// hold makes held. It makes those addresses undecided that have siblings, or had some: one
// of these may have come or gone.
func (d *Decider) hold() {
	d.held = map[snapshot.Ref][]int{}
	var several []snapshot.Ref
	for i := range d.last {
		one := &d.last[i]
		// Siblings are kept apart on different nodes: one that comes or goes moves the others.
		one.known = one.known && !one.apart
		for _, h := range one.addr.Holders {
			places := d.held[h.Ref]
			// Addresses are sorted, so those of one family of a Service follow each other here.
			if n := len(places); n > 0 && snapshot.FamilyOf(d.last[places[n-1]].addr.Addr) == snapshot.FamilyOf(one.addr.Addr) {
				several = append(several, h.Ref)
			}
			d.held[h.Ref] = append(places, i)
		}
	}
	for _, ref := range several {
		for _, i := range d.held[ref] {
			one := &d.last[i]
			one.known = one.known && d.election.siblings(one.addr) == nil
		}
	}
}

// align returns a place for each of addrs, with what was decided of it if that
// is still known.
func (d *Decider) align(addrs []*snapshot.Address, known bool) []decided {
	out := make([]decided, len(addrs))
	rest := d.last
	for i, a := range addrs {
		out[i].addr = a
		for len(rest) > 0 && rest[0].addr.Addr.Compare(a.Addr) < 0 {
			rest = rest[1:]
		}
		// An Address object that changed is another pointer.
		if known && len(rest) > 0 && rest[0].addr == a {
			out[i] = rest[0]
		}
	}
	return out
}

func joined(all []decided) (p Plan) {
	p.Refused = make([]Refused, 0, len(all))
	for i := range all {
		p.add(all[i].addr.Addr, all[i].outcome)
	}
	if len(p.Refused) == 0 {
		p.Refused = nil
	}
	return p
}

// knows reports whether nothing changed that may concern every address.
func (d *Decider) knows(in Input, changes snapshot.Changes) bool {
	// A NodeState changes with every address that its node takes or gives up. None
	// of that is read here.
	states := !changes.NodeStates || slices.EqualFunc(d.in.Snapshot.NodeStates, in.Snapshot.NodeStates, func(a, b *snapshot.NodeState) bool {
		return sameState(a.Electable, b.Electable)
	})
	return states && d.fixed(in, changes) && maps.Equal(d.in.Alive, in.Alive) && maps.EqualFunc(d.in.Others, in.Others, sameState)
}

// fixed reports whether nothing but the nodes' health and word may have changed of
// what concerns every address.
func (d *Decider) fixed(in Input, changes snapshot.Changes) bool {
	return !changes.Nodes && !changes.Pools && !changes.Announcements && d.in.Node == in.Node && sameState(d.in.Self, in.Self) && maps.EqualFunc(d.in.Lacks, in.Lacks, maps.Equal)
}

// forget makes the addresses undecided that are concerned by what changed since
// before, and reports whether it could: that is so if nodes were lost and nothing
// else. They concern the addresses that they own or are heirs of, and those that
// nobody can announce, whose refusals say why. The others stay with their owners.
func (d *Decider) forget(before *election) bool {
	if (before.stayers == nil) != (d.election.stayers == nil) || before.apart != d.election.apart {
		return false // the last agent of version 0.1 was lost
	}
	lost := map[string]bool{}
	for i, now := range d.election.nodes {
		was := before.nodes[i]
		switch same := was.state != nil && now.state != nil && sameState(*was.state, *now.state); {
		case was.unfit == now.unfit && same:
		// By the rendezvous hash a loss moves the lost node's addresses alone. A node that comes may
		// take an address from any other.
		case was.unfit == "" && now.unfit != "":
			lost[now.Name] = true
		default:
			return false
		}
	}
	for i := range d.last {
		d.last[i].known = d.last[i].known && !d.last[i].apart && !d.last[i].concerns(d.in.Node, lost)
	}
	return true
}

// concerns reports whether the outcome, which self decided, may be another without
// the nodes lost.
func (o outcome) concerns(self string, lost map[string]bool) bool {
	isLost := func(n string) bool { return lost[n] }
	if o.announce != nil {
		// A lost heir watches the owner no longer: the plan has to name the next one.
		return lost[self] || slices.ContainsFunc(o.announce.Heirs, isLost)
	}
	return o.refused != nil && (o.refused.Owner == "" || lost[o.refused.Owner] || slices.ContainsFunc(o.refused.Heirs, isLost))
}

// sameState reports whether an election reads the same of a and b.
func sameState(a, b snapshot.Electable) bool {
	return a.Node == b.Node && a.InSync == b.InSync && a.Draining == b.Draining && a.DrainsFor == b.DrainsFor && a.Protocol == b.Protocol && slices.Equal(a.Stays, b.Stays) && slices.Equal(a.Unforwarded, b.Unforwarded) && slices.EqualFunc(a.Links, b.Links, func(x, y snapshot.Link) bool {
		return x.Name == y.Name && slices.Equal(x.Prefixes, y.Prefixes)
	})
}

// prepare makes the election of in, from the last one if that is still good. The
// nodes' rankings outlive it: a node that fails changes who is elected, but not
// the order in which the others follow.
func (d *Decider) prepare(in Input, known bool) {
	if known { // Alive and Others are what they were
		in.Alive, in.Others = d.in.Alive, d.in.Others
	} else {
		// The next call compares with them, and the caller may change its maps until then.
		in.Alive, in.Others = maps.Clone(in.Alive), maps.Clone(in.Others)
	}
	d.in = in
	if known {
		d.election.in = in
		return
	}
	d.election = newElection(in)
	d.election.holdings = func(ref snapshot.Ref) []*snapshot.Address {
		places := d.held[ref]
		out := make([]*snapshot.Address, len(places))
		for i, at := range places {
			out[i] = d.last[at].addr
		}
		return out
	}
	names := make([]string, len(in.Snapshot.Nodes))
	for i, n := range in.Snapshot.Nodes {
		names[i] = n.Name
	}
	if gone := len(d.rankings) > 2*len(in.Snapshot.Addresses)+maxStaleRankings; d.rankings == nil || gone || !slices.Equal(names, d.names) {
		d.rankings, d.names = map[netip.Addr][]uint16{}, names
	}
	d.election.ranking = func(addr netip.Addr) []uint16 {
		order, ok := d.rankings[addr]
		if !ok {
			order = ranked(in.Snapshot.Nodes, addr)
			d.rankings[addr] = order
		}
		return order
	}
}

// maxStaleRankings is how many addresses that are gone a Decider remembers the ranking of.
const maxStaleRankings = 1000
