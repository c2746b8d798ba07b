package announcer

import (
	"slices"
	"sync"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// holdings returns a function that returns the addresses which a Service holds, sorted.
func holdings(s *snapshot.Snapshot) func(snapshot.Ref) []*snapshot.Address {
	all := sync.OnceValue(func() map[snapshot.Ref][]*snapshot.Address {
		out := make(map[snapshot.Ref][]*snapshot.Address, len(s.Addresses))
		for _, a := range s.Addresses {
			for _, h := range a.Holders {
				out[h.Ref] = append(out[h.Ref], a)
			}
		}
		return out
	})
	return func(ref snapshot.Ref) []*snapshot.Address { return all()[ref] }
}

// siblings returns the addresses of a's family that the same Services hold, a among them,
// sorted; nil if there is no other. They are announced by different nodes, if they can be.
// It returns nil while an agent of version 0.1 may be elected. Such an agent elects each
// address by itself, and all agents have to come to the same owners.
func (e *election) siblings(a *snapshot.Address) []*snapshot.Address {
	if !e.apart || len(a.Holders) == 0 {
		return nil
	}
	held := e.holdings(a.Holders[0].Ref)
	if len(held) < 2 {
		return nil
	}
	var out []*snapshot.Address
	for _, o := range held {
		if snapshot.FamilyOf(o.Addr) == snapshot.FamilyOf(a.Addr) && !o.Deleting && slices.EqualFunc(o.Holders, a.Holders, sameHolder) {
			out = append(out, o)
		}
	}
	if len(out) < 2 || len(out) > mostSiblings {
		return nil
	}
	return out
}

// mostSiblings bounds the work for one address. A Service can ask for eight addresses, and
// holds twice as many in the middle of a move.
const mostSiblings = 16

func sameHolder(a, b snapshot.Holder) bool { return a.Ref == b.Ref && a.UID == b.UID }

// winnersApart is winners for one of the siblings in group. Each of them has a home, which
// is the node that owns it while all are well: no two have the same one, as far as there
// are nodes. An address is at home while its home can be elected. So the loss of a node
// moves the addresses of that node alone. Any other takes the best node that owns none of
// the group, or the best of all.
func (b *ballot) winnersApart(group []*snapshot.Address) []int {
	orders, owners := make([][]int, len(group)), make([]int, len(group))
	homes, used := map[int]bool{}, map[int]bool{}
	at := make([]int, len(group))
	self := 0
	for i, a := range group {
		o := b.election.ballot(a, b.services)
		orders[i], owners[i] = slices.Clone(o.winnersAlone(len(b.nodes))), -1
		// With what agents say among the reasons, all siblings moved when a node was lost and nobody
		// heard its agent any more (TestNodesThatBreakInPart in internal/agent).
		if at[i] = o.free(o.lasting(), homes); at[i] >= 0 {
			homes[at[i]] = true
		}
		if a.Addr == b.addr.Addr {
			self = i
		}
		// failback: Never comes first, or a home that is well again would take its address back.
		if len(orders[i]) > 0 && o.stays(orders[i][0]) {
			owners[i], used[orders[i][0]] = orders[i][0], true
		}
	}
	for i := range group {
		// Those at home before the others: a guest that chose first would move an address that is well.
		if owners[i] < 0 && slices.Contains(orders[i], at[i]) && !used[at[i]] {
			owners[i], used[at[i]] = at[i], true
		}
	}
	for i, a := range group {
		if owners[i] >= 0 || len(orders[i]) == 0 {
			continue
		}
		o := b.election.ballot(a, b.services)
		owners[i] = o.free(orders[i], used)
		used[owners[i]] = true
	}
	return b.following(orders[self], owners[self], used)
}

// free returns the first of order that is not used and that Announcements prefer as much
// as the first of all; that one if all are used, and -1 if order is empty.
func (b *ballot) free(order []int, used map[int]bool) int {
	if len(order) == 0 {
		return -1
	}
	for _, i := range order {
		// preferredNodes come before keeping siblings apart.
		if b.weight(i) < b.weight(order[0]) {
			break
		}
		if !used[i] {
			return i
		}
	}
	return order[0]
}

// lasting returns the contenders that may own the address by their Nodes and the
// Announcements alone, the best first. What agents say has no part in it: nobody hears
// the agent of a node that is lost, and all homes would move with that.
func (b *ballot) lasting() []int {
	var out []int
	for _, at := range b.ranking(b.addr.Addr) {
		i := int(at)
		selects := func(r *rule) bool { return r.selects[i] }
		// Ready does not count either: it goes when the node is lost.
		if !b.nodes[i].Excluded() && (!b.selected || slices.ContainsFunc(b.rules, selects)) {
			out = append(out, i)
		}
	}
	if b.weighted {
		slices.SortStableFunc(out, func(x, y int) int { return b.weight(y) - b.weight(x) })
	}
	return out
}

// following returns the owner and then its heirs: of those that are preferred alike, the
// ones that own no sibling come first.
func (b *ballot) following(order []int, owner int, used map[int]bool) []int {
	if owner < 0 {
		return nil
	}
	out := append([]int{owner}, slices.DeleteFunc(order, func(i int) bool { return i == owner })...)
	slices.SortStableFunc(out[1:], func(x, y int) int {
		if w := b.weight(y) - b.weight(x); w != 0 {
			return w
		}
		// An heir that owns a sibling would have two of the Service's addresses after one loss.
		return owns(used, x) - owns(used, y)
	})
	return out
}

func owns(used map[int]bool, i int) int {
	if used[i] {
		return 1
	}
	return 0
}
