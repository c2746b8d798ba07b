package announcer

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// TakeAfter is how long a node that may be elected anew leaves its VIPs to those who
// have them: they hear of it meanwhile and stop to answer for them. At no time do two
// nodes answer a host that asks, or its next packet goes to a node that does not know
// its connection; a host that knew the address before is served by the old node, which
// goes on to forward; and one that asks while nobody answers is told by the
// announcement of the new owner, long before it asks again.
const TakeAfter = 200 * time.Millisecond

// Handover is when a node may take over what it is elected for. The zero value is a
// node that was never electable.
type Handover struct {
	electable    time.Time             // since when; zero: it is not
	formerOwners map[netip.Addr]string // who was elected before this node for what it does not hold yet
}

// Follow takes in that node decides next after was, and holds what held tells.
func (h *Handover) Follow(node string, was, next Plan, held func(netip.Addr) bool) {
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

// SetElectable takes in whether this node may be elected now, at the time at.
func (h *Handover) SetElectable(may bool, at time.Time) {
	switch {
	case !may:
		h.electable = time.Time{}
	case h.electable.IsZero():
		h.electable = at
	}
}

// TakeOver returns the VIPs of elected that are to be held at the time at, and when the
// others may be: zero if none waits. What is held already does not wait.
func (h *Handover) TakeOver(elected []VIP, held func(netip.Addr) bool, at time.Time) (take []VIP, until time.Time) {
	due := h.electable.Add(TakeAfter)
	for _, v := range elected {
		if held(v.Addr) || !at.Before(due) {
			take = append(take, v)
		} else {
			until = due
		}
	}
	return take, until
}

// Orphaned returns the addresses of next that another node's kernel may still answer
// for at time at, although that node no longer owns them or its agent does not look after
// them. That node was elected before. These cases are left:
//   - an agent is silent and its node's kernel answers: as long as that lasts;
//   - an agent was silent until less than lease ago. It needs the cluster's state before it
//     knows what it still owns;
//   - a node is called gone, and reach does not confirm it: a firewall may be what keeps
//     its answers away, or this node may be the one that does not hear.
func (h *Handover) Orphaned(in Input, v View, next []VIP, reach Reach, lease time.Duration, at time.Time) map[netip.Addr]bool {
	gone, recent, before := map[string]bool{}, map[string]bool{}, in
	before.Alive = maps.Clone(in.Alive)
	for _, m := range v.Members {
		young, silent := at.Sub(m.Since) < lease+time.Second, m.Verdict != Alive
		if reach.Gone(m.Node) || !silent && !young {
			continue
		}
		recent[m.Node] = true
		if (silent || m.Stale) && m.Report != nil {
			gone[m.Node] = true
			before.Alive[m.Node] = m.Report.Settled
		}
	}
	if len(recent) == 0 || len(next) == 0 {
		return nil
	}
	e, left := newElection(before), map[netip.Addr]bool{}
	for _, vip := range next {
		if recent[h.formerOwners[vip.Addr]] || len(gone) > 0 && gone[e.owner(vip.Addr)] {
			left[vip.Addr] = true
		}
	}
	if len(left) == 0 {
		return nil
	}
	return left
}

// Owner returns which other node is to announce addr, "" if none is.
func (p Plan) Owner(addr netip.Addr) string {
	i, ok := slices.BinarySearchFunc(p.Refused, addr, func(r Refused, a netip.Addr) int { return r.Addr.Compare(a) })
	if !ok || p.Refused[i].Reason != NotOwner {
		return ""
	}
	return p.Refused[i].Owner
}
