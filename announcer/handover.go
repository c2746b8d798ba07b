package announcer

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// LeaveAfter is how long a node at most answers for an address after it has told the others
// that the address is another node's. It stops when it hears that node announce the
// address: there is always an answer, and two nodes answer for a moment only.
const LeaveAfter = 400 * time.Millisecond

// Handover is who had what this node is elected for. The zero value knows nobody.
type Handover struct {
	formerOwners map[netip.Addr]string // who was elected before this node for what it does not hold yet
	heard        time.Time             // since when some other node has been heard of, zero while none has
}

// lastTurn is the last turn in which a node takes what it waits for.
const lastTurn = 10

// Follow takes in that node decides next after was, and holds what held tells.
func (h *Handover) Follow(node string, was, next Plan, held func(netip.Addr) bool) {
	if len(h.formerOwners) == 0 && was.Same(next) {
		return // nobody hands anything over
	}
	former := map[netip.Addr]string{}
	note := func(addr netip.Addr) {
		if held(addr) {
			return
		}
		if owner := cmp.Or(h.formerOwners[addr], was.Owner(addr)); owner != "" {
			former[addr] = owner
		}
	}
	for _, v := range next.Announce {
		note(v.Addr)
	}
	for _, r := range next.Refused {
		if r.Owner == node {
			note(r.Addr)
		}
	}
	h.formerOwners = former
}

// Orphaned returns the addresses of next that another node's kernel may still answer
// for at time at, although that node no longer owns them or its agent does not look after
// them. Each has this node's turn to take it. These cases are left:
//   - an agent is silent and its node's kernel answers: as long as that lasts;
//   - an agent was silent until less than lease ago, and does not say that it may be elected.
//     It needs the cluster's state before it knows what it still owns;
//   - a node is called gone, and reach does not confirm it: a firewall may be what keeps
//     its answers away, or this node may be the one that does not hear;
//   - a node was never heard of, this one has heard of the first for less than lease, and knows
//     no former owner: that node may answer all the same, or may be about to, as this one is.
//     They take turns.
func (h *Handover) Orphaned(in Input, v View, next []VIP, reach Reach, lease time.Duration, at time.Time) map[netip.Addr]int {
	unheard := in.unheard()
	if alone := len(in.Snapshot.Nodes) > 1 && len(unheard) == len(in.Snapshot.Nodes)-1; alone {
		h.heard = time.Time{}
	} else if h.heard.IsZero() {
		h.heard = at
	}
	// What is not heard of after that has no agent: on a node outside of the DaemonSet's selector.
	if !h.heard.IsZero() && at.Sub(h.heard) >= lease+time.Second {
		unheard = nil
	}
	gone, recent, before := map[string]bool{}, map[string]bool{}, in
	before.Alive = maps.Clone(in.Alive)
	for _, m := range v.Members {
		young, silent := at.Sub(m.Since) < lease+time.Second, m.Verdict != Alive
		knows := !m.Stale && m.Report != nil && m.Report.Settled && m.Report.InSync
		// Two nodes that agree that a kernel does not answer are proof. An agent that knows the
		// cluster's state has given up what is not its own. One that is back after a silence says how
		// its node is a moment later: until then it may have everything that it had.
		if len(reach.Lost[m.Node]) > 0 || !silent && !m.Stale && (knows || !young) {
			continue
		}
		recent[m.Node] = true
		// Its kernel holds what it owned while it was alive: elect as if it still were.
		if (silent || m.Stale) && m.Report != nil {
			gone[m.Node] = true
			before.Alive[m.Node] = m.Report.Settled
		}
	}
	if len(recent)+len(unheard) == 0 || len(next) == 0 {
		return nil
	}
	e, left := newElection(before), map[netip.Addr]int{}
	for _, vip := range next {
		switch former := h.formerOwners[vip.Addr]; {
		// With gossip blocked from the start, every node would own every address at once. When it
		// comes back, a node is heard before the one that has the address: 0.54 s with two answers.
		case former == "" && len(unheard) > 0:
			left[vip.Addr] = in.turn(vip.Addr, unheard)
		case recent[former], len(gone) > 0 && gone[e.owner(vip.Addr)]:
			left[vip.Addr] = 0
		}
	}
	if len(left) == 0 {
		return nil
	}
	return left
}

// Same reports whether p and o are one Plan, as a Decider returns while nothing changed.
func (p Plan) Same(o Plan) bool {
	return diff.Same(p.Announce, o.Announce) && diff.Same(p.Refused, o.Refused) && diff.Same(p.Disputed, o.Disputed)
}

// unheard returns the nodes that nothing was ever heard of.
func (in Input) unheard() (nodes []*snapshot.Node) {
	for _, n := range in.Snapshot.Nodes {
		if in.state(n.Name) == nil {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// turn returns how many of others come before this node in the election for addr, if all
// could be elected.
func (in Input) turn(addr netip.Addr, others []*snapshot.Node) int {
	self := in.Snapshot.Node(in.Node)
	if self == nil {
		return 0
	}
	among := slices.Concat(others, []*snapshot.Node{self})
	turn := slices.IndexFunc(ranked(among, addr), func(i uint16) bool { return among[i] == self })
	return min(turn, lastTurn)
}

// Owner returns the other node that should announce addr, "" if no other node should.
func (p Plan) Owner(addr netip.Addr) string {
	i, ok := slices.BinarySearchFunc(p.Refused, addr, func(r Refused, a netip.Addr) int { return r.Addr.Compare(a) })
	if !ok || p.Refused[i].Reason != NotOwner {
		return ""
	}
	return p.Refused[i].Owner
}
