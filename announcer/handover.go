package announcer

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/diff"
)

// LeaveAfter is how long a node at most answers for an address after it has told the others
// that the address is another node's. It stops when it hears that node announce the
// address: there is always an answer, and two nodes answer for a moment only.
const LeaveAfter = 400 * time.Millisecond

// Handover is who had what this node is elected for. The zero value knows nobody.
type Handover struct {
	began        bool
	formerOwners map[netip.Addr]string // who was elected before this node for what it does not hold yet
}

// nobodyKnows is the former owner of what an agent that starts is elected for.
const nobodyKnows = "?"

// lastTurn is the last turn in which a node takes what it waits for.
const lastTurn = 10

// Follow takes in that node decides next after was, and holds what held tells.
func (h *Handover) Follow(node string, was, next Plan, held func(netip.Addr) bool) {
	if h.began && len(h.formerOwners) == 0 && was.Same(next) {
		return // nobody hands anything over
	}
	former := map[netip.Addr]string{}
	note := func(addr netip.Addr) {
		if held(addr) {
			return
		}
		owner := cmp.Or(h.formerOwners[addr], was.Owner(addr))
		if owner == "" && !h.began {
			owner = nobodyKnows
		}
		if owner != "" {
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
	h.began, h.formerOwners = true, former
}

// Orphaned returns the addresses of next that another node's kernel may still answer
// for at time at, although that node no longer owns them or its agent does not look after
// them. Each has this node's turn to take it. These cases are left:
//   - an agent is silent and its node's kernel answers: as long as that lasts;
//   - an agent was silent until less than lease ago, and does not say that it may be elected.
//     It needs the cluster's state before it knows what it still owns;
//   - a node is called gone, and reach does not confirm it: a firewall may be what keeps
//     its answers away, or this node may be the one that does not hear;
//   - this agent starts, and a node was never heard of. That one may answer all the same;
//   - no other node was ever heard of. Each of them may be like this one, and they take turns.
func (h *Handover) Orphaned(in Input, v View, next []VIP, reach Reach, lease time.Duration, at time.Time) map[netip.Addr]int {
	unheard, alone := in.unheard()
	// With gossip blocked from the start, every node would own every address at once.
	if alone {
		return in.turns(next)
	}
	gone, recent, before := map[string]bool{}, map[string]bool{nobodyKnows: unheard}, in
	before.Alive = maps.Clone(in.Alive)
	for _, m := range v.Members {
		young, silent := at.Sub(m.Since) < lease+time.Second, m.Verdict != Alive
		knows := !m.Stale && m.Report != nil && m.Report.Settled && m.Report.InSync
		// Two nodes that agree that a kernel does not answer are proof. An agent that knows the
		// cluster's state has given up what is not its own.
		if len(reach.Lost[m.Node]) > 0 || !silent && (knows || !young) {
			continue
		}
		recent[m.Node] = true
		// Its kernel holds what it owned while it was alive: elect as if it still were.
		if (silent || m.Stale) && m.Report != nil {
			gone[m.Node] = true
			before.Alive[m.Node] = m.Report.Settled
		}
	}
	if len(recent) == 1 && !unheard || len(next) == 0 {
		return nil
	}
	e, left := newElection(before), map[netip.Addr]int{}
	for _, vip := range next {
		if recent[h.formerOwners[vip.Addr]] || len(gone) > 0 && gone[e.owner(vip.Addr)] {
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

// unheard reports whether nothing was ever heard of some other node, and of any.
func (in Input) unheard() (some, all bool) {
	all = len(in.Snapshot.Nodes) > 1
	for _, n := range in.Snapshot.Nodes {
		unheard := in.state(n.Name) == nil
		some, all = some || unheard, all && (unheard || n.Name == in.Node)
	}
	return some, all
}

// turns returns for each of vips how many nodes come before this one in its election, if all
// could be elected.
func (in Input) turns(vips []VIP) map[netip.Addr]int {
	if len(vips) == 0 {
		return nil
	}
	out := make(map[netip.Addr]int, len(vips))
	for _, v := range vips {
		order := ranked(in.Snapshot.Nodes, v.Addr)
		turn := slices.IndexFunc(order, func(i uint16) bool { return in.Snapshot.Nodes[i].Name == in.Node })
		out[v.Addr] = min(max(turn, 0), lastTurn)
	}
	return out
}

// Owner returns the other node that should announce addr, "" if no other node should.
func (p Plan) Owner(addr netip.Addr) string {
	i, ok := slices.BinarySearchFunc(p.Refused, addr, func(r Refused, a netip.Addr) int { return r.Addr.Compare(a) })
	if !ok || p.Refused[i].Reason != NotOwner {
		return ""
	}
	return p.Refused[i].Owner
}
