package node

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// RetreatFor is how long routers have to find other ways before a drained node
// withdraws its paths (RFC 8326).
const RetreatFor = 5 * time.Second

// The taints of a node from which load is to go away, no matter who put them there.
const (
	taintOutOfService = "node.kubernetes.io/out-of-service"
	taintShutdown     = "node.cloudprovider.kubernetes.io/shutdown"
)

// drains returns why this node may have to hand over what it announces, and whether some
// Announcement, or what holds without one, asks for that. An agent that stops is not a reason:
// a stop is a restart.
func drains(in Inputs) (why snapshot.DrainCauses, draining bool) {
	n := in.Snapshot.Node(in.Node)
	for cause, is := range map[snapshot.DrainCauses]bool{
		snapshot.DrainRemoval:      in.Removed,
		snapshot.DrainDeletion:     n == nil || n.Deleting,
		snapshot.DrainShutdown:     n != nil && (n.ShuttingDown || slices.Contains(n.Taints, taintShutdown)),
		snapshot.DrainOutOfService: n != nil && slices.Contains(n.Taints, taintOutOfService),
		snapshot.DrainCordon:       n != nil && n.Unschedulable,
	} {
		if is {
			why |= cause
		}
	}
	// Of several Announcements that select the node, each may add reasons.
	// Removal counts whatever Announcements say: nobody renews what this node holds afterwards.
	on := snapshot.DrainRemoval | snapshot.DrainByDefault
	for _, an := range in.Snapshot.Announcements {
		on |= an.DrainOn
	}
	return why, why&on != 0
}

// staying is the addresses that this node keeps under failback: Never.
type staying struct {
	known     bool // this agent was elected at least once
	addrs     []netip.Addr
	rebalance string // see rebalanced
}

// before returns what this node says that it keeps before the next election. An agent that
// starts keeps what the kernel answers for, because the agent before it was elected for
// that. After a rebalance it keeps nothing.
func (s staying) before(in Inputs) (out []netip.Addr) {
	switch never := func(an *snapshot.Announcement) bool { return an.FailbackNever }; {
	case !slices.ContainsFunc(in.Snapshot.Announcements, never):
		return nil
	case s.known && s.rebalance != rebalanced(in.Snapshot):
		return nil
	case s.known:
		return s.addrs
	}
	for _, c := range in.Held {
		out = append(out, c.Addr)
	}
	return announcer.Told(slices.Compact(out))
}

// rebalanced changes when addresses that stay are to be spread.
func rebalanced(s *snapshot.Snapshot) string {
	var b strings.Builder
	for _, an := range s.Announcements {
		if an.Rebalance != "" {
			fmt.Fprintf(&b, "%s=%s\n", an.Name, an.Rebalance)
		}
	}
	return b.String()
}

// drainingSince returns when the drain began; zero if the node does not drain.
func drainingSince(drains bool, was, now time.Time) time.Time {
	switch {
	case !drains:
		return time.Time{}
	case was.IsZero():
		return now
	}
	return was
}

// retreating reports whether a drain that began at since is in its first part,
// in which routers are asked to prefer other ways, and when that part ends. A
// path that is withdrawn at once loses packets until the routers have converged.
func retreating(since, now time.Time) (bool, time.Time) {
	end := since.Add(RetreatFor)
	if since.IsZero() || !now.Before(end) {
		return false, time.Time{}
	}
	return true, end
}

// everyRecord is the VIPs of a cluster whose Services another proxy forwards.
type everyRecord struct {
	addresses []*snapshot.Address
	ready     map[netip.Addr]bool
}

// noVIPs is an engine's Ready that holds no VIP.
var noVIPs = map[netip.Addr]bool{}

// ready returns the VIPs that this node can forward. Where another proxy forwards
// it is every VIP that has a record, as soon as that proxy is in order: nobody
// tells which of them it has programmed.
func (m *Memory) ready(in Inputs) map[netip.Addr]bool {
	switch {
	case !in.Engine.Other:
		return in.Engine.Ready
	case !in.Engine.InSync:
		return noVIPs
	}
	// One map while the addresses are the same: the election compares it by its identity.
	if m.others.ready == nil || !diff.Same(m.others.addresses, in.Snapshot.Addresses) && !slices.Equal(m.others.addresses, in.Snapshot.Addresses) {
		m.others = everyRecord{in.Snapshot.Addresses, make(map[netip.Addr]bool, len(in.Snapshot.Addresses))}
		for _, a := range in.Snapshot.Addresses {
			m.others.ready[a.Addr] = true
		}
	}
	return m.others.ready
}

// routable returns the VIPs that may be announced over BGP. Every node announces
// these, so one whose engine lags behind leaves the traffic to the others. At
// layer 2 the election does the same.
func routable(ready map[netip.Addr]bool, e Engine) map[netip.Addr]bool {
	if !e.InSync {
		return noVIPs
	}
	return ready
}

// layer2Set returns what to hold at layer 2 of what this node was elected for, and
// when to decide again. It keeps what is held for others in m.
func (m *Memory) layer2Set(in Inputs, election announcer.Input, was Memory) (*announcer.Set, time.Time) {
	held := holds(in.Held)
	m.handover.Follow(in.Node, was.elected, m.elected, held)
	take := m.elected.Announce
	var until time.Time
	m.leaving, until = linger(in, election, was, m.elected, held)
	set := m.set.next(in.Snapshot.Addresses, take, vips(m.leaving), election, m.elected)
	set.Ours = announcer.Ours(election)
	m.set = m.set.awaiting(in.Held, take)
	set.Orphaned = m.handover.Orphaned(election, in.View, m.set.awaited, in.Reach, announcer.Lease, in.Now)
	set.Leaving = handedOver(m.leaving)
	set.Returns = in.View.Returns + in.Reach.Returns
	m.set = m.set.keep(set, in.Snapshot.Addresses, take, len(m.leaving) > 0, m.elected)
	return m.set.set, until
}

// lastSet is a Set with the lists that its claims and records were made of.
type lastSet struct {
	set       *announcer.Set
	addresses []*snapshot.Address
	take      []announcer.VIP
	disputed  []announcer.VIP
	lingers   bool // the claims hold more than take
	held      []announcer.Claim
	wanted    []announcer.VIP // take when awaited was made
	awaited   []announcer.VIP // what of wanted held lacks
}

// awaiting returns l with what of take is not held.
func (l lastSet) awaiting(held []announcer.Claim, take []announcer.VIP) lastSet {
	if diff.Same(l.held, held) && diff.Same(l.wanted, take) {
		return l
	}
	has := holds(held)
	l.held, l.wanted, l.awaited = held, take, nil
	for _, v := range take {
		if !has(v.Addr) {
			l.awaited = append(l.awaited, v)
		}
	}
	return l
}

// next returns the Set for take and leaving, without what gossip says. A node may
// hold a thousand VIPs, and most decisions change none.
func (l lastSet) next(addresses []*snapshot.Address, take, leaving []announcer.VIP, election announcer.Input, elected announcer.Plan) announcer.Set {
	if l.set != nil && !l.lingers && len(leaving) == 0 && diff.Same(l.addresses, addresses) && diff.Same(l.take, take) && diff.Same(l.disputed, elected.Disputed) {
		return *l.set
	}
	return announcer.NewSet(election, elected, slices.Concat(take, leaving))
}

// keep returns set with the lists that it was made of. It is the last Set itself
// if that is equal.
func (l lastSet) keep(set announcer.Set, addresses []*snapshot.Address, take []announcer.VIP, lingers bool, elected announcer.Plan) lastSet {
	now := l
	now.set, now.addresses, now.take, now.disputed, now.lingers = &set, addresses, take, elected.Disputed, lingers
	if was := l.set; was != nil && diff.Same(was.Claims, set.Claims) && diff.Same(was.Disputed, set.Disputed) &&
		sameMap(was.Records, set.Records) && sameMap(was.Refresh, set.Refresh) && maps.Equal(was.Ours, set.Ours) && maps.Equal(was.Orphaned, set.Orphaned) && maps.Equal(was.Leaving, set.Leaving) && was.Returns == set.Returns {
		now.set = was
	}
	return now
}

// sameMap reports whether a and b are equal, at once if they are one map.
func sameMap[K, V comparable](a, b map[K]V) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer() || maps.Equal(a, b)
}

// holds returns a function that reports whether one of claims is for an address.
func holds(claims []announcer.Claim) func(netip.Addr) bool {
	return func(addr netip.Addr) bool {
		_, found := slices.BinarySearchFunc(claims, addr, func(c announcer.Claim, a netip.Addr) int { return c.Addr.Compare(a) })
		return found
	}
}

// departure is a VIP that this node holds for the next owner until that one has it.
type departure struct {
	announcer.VIP
	since time.Time // since when its next owner can take it; zero: its agent is silent
}

// linger returns the VIPs that this node was elected for, still holds, and that next
// gives to another node, and when the first of them is to be given up: the other node
// needs a moment to take it. One whose agent is silent cannot take it at all.
// What this node cannot forward any more is given up at once.
func linger(in Inputs, election announcer.Input, was Memory, next announcer.Plan, held func(netip.Addr) bool) (leaving []departure, until time.Time) {
	if len(was.leaving) == 0 && was.elected.Same(next) {
		return nil, until // most decisions give nothing to another node
	}
	before := slices.Clone(was.leaving)
	for _, v := range was.elected.Announce {
		if next.Owner(v.Addr) != "" {
			before = append(before, departure{VIP: v})
		}
	}
	if len(before) == 0 {
		return nil, until
	}
	able := election.Able()
	for _, d := range before {
		owner := next.Owner(d.Addr)
		// A node that cannot forward gives up at once, also if nobody answers for a moment.
		if owner == "" || !held(d.Addr) || !able(d.Addr) {
			continue
		}
		m := in.View.Member(owner)
		switch speaks := m != nil && m.Verdict == announcer.Alive; {
		// A silent agent cannot take the address: this node answers until it speaks.
		case !speaks:
			d.since = time.Time{}
		case d.since.IsZero():
			d.since = in.Now
			fallthrough
		case in.Now.Sub(d.since) < announcer.LeaveAfter:
			until = earliest(until, d.since.Add(announcer.LeaveAfter))
		// The next owner had its time. For longer, a host that asks would be told of both nodes in
		// turn, and the packets of one connection would go to both.
		default:
			continue
		}
		leaving = append(leaving, d)
	}
	slices.SortFunc(leaving, func(a, b departure) int { return a.Addr.Compare(b.Addr) })
	return leaving, until
}

// handedOver returns the addresses that their next owners can take now: Set.Leaving.
func handedOver(of []departure) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, d := range of {
		if !d.since.IsZero() {
			out[d.Addr] = true
		}
	}
	return out
}

// vips returns the VIPs of departures.
func vips(of []departure) (out []announcer.VIP) {
	for _, d := range of {
		out = append(out, d.VIP)
	}
	return out
}

// narrowed returns the paths of was that next has too, as next has them, or nil
// if next has them all: a path whose Service is gone must not attract packets
// while the engine forgets the Service.
func narrowed(was, next bgp.Plan) *bgp.Plan {
	if len(was.Peers) == 0 || diff.Same(was.Peers, next.Peers) {
		return nil // nothing was announced, or it is the same plan
	}
	kept := was.Keep(next)
	if kept.Paths() == was.Paths() && len(was.Peers) <= len(next.Peers) {
		return nil
	}
	return &kept
}

// refusals returns one refusal for each VIP that this node announces by no way,
// sorted. Of an address that an Announcement sends over BGP, BGP's reason counts:
// layer 2 has no say about it.
func refusals(layer2 []announcer.Refused, routes bgp.Plan) []announcer.Refused {
	if len(routes.Announce)+len(routes.RefusedVIPs) == 0 {
		return layer2
	}
	routed, silent := map[netip.Addr]bool{}, map[netip.Addr]snapshot.Refusal{}
	for _, v := range routes.Announce {
		routed[v.Addr] = true
	}
	for _, s := range routes.RefusedVIPs {
		silent[s.Addr] = s.Refusal
	}
	out := make([]announcer.Refused, 0, len(layer2))
	for _, r := range layer2 {
		why, refused := silent[r.Addr]
		switch {
		// No node has a link for it, and BGP needs none.
		case routed[r.Addr] && r.Reason == announcer.NoCandidate:
			continue
		// What BGP announces is reached, whatever another Announcement over BGP refuses.
		case refused && !routed[r.Addr]:
			r.Refusal = why
		}
		out = append(out, r)
	}
	return out
}

// lastRefused is the refusals of a decision, with what they were made of.
type lastRefused struct {
	layer2 []announcer.Refused
	routed []bgp.VIP
	silent []bgp.RefusedVIP
	all    []announcer.Refused
}

// next returns the refusals of a decision.
func (l lastRefused) next(layer2 []announcer.Refused, routes bgp.Plan) lastRefused {
	if diff.Same(l.layer2, layer2) && diff.Same(l.routed, routes.Announce) && diff.Same(l.silent, routes.RefusedVIPs) {
		return l
	}
	return lastRefused{layer2, routes.Announce, routes.RefusedVIPs, refusals(layer2, routes)}
}

// lastWatched is which owners are watched, with what that was made of.
type lastWatched struct {
	node    string
	refused []announcer.Refused
	owners  map[string]bool
}

// next returns the owners that node watches.
func (l lastWatched) next(node string, elected announcer.Plan) lastWatched {
	if l.owners != nil && l.node == node && diff.Same(l.refused, elected.Refused) {
		return l
	}
	return lastWatched{node, elected.Refused, elected.WatchedBy(node)}
}

// lastWithdrawn is the claims to give up, with what they were made of.
type lastWithdrawn struct {
	held, keep []announcer.Claim
	claims     []announcer.Claim
}

// next returns the claims of held that are not in keep.
func (l lastWithdrawn) next(held, keep []announcer.Claim) lastWithdrawn {
	if diff.Same(l.held, held) && diff.Same(l.keep, keep) {
		return l
	}
	return lastWithdrawn{held, keep, without(held, keep)}
}

// without returns the claims of a that b does not have. Both are sorted.
func without(a, b []announcer.Claim) (out []announcer.Claim) {
	for _, c := range a {
		if _, found := slices.BinarySearchFunc(b, c, announcer.Claim.Compare); !found {
			out = append(out, c)
		}
	}
	return out
}

// earliest returns the earlier of two times; zero is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
