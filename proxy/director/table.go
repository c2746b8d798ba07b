package director

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"
)

// Member is a node of the cluster as the table sees it.
type Member struct {
	Name string
	// Weight is the number of its endpoints that are ready. A node without any is
	// primary of no slot, and may still have connections.
	Weight int
}

// sizes are how many slots a Table may have. Each is a prime, and about twice the one
// before, so that few changes of the cluster change it.
var sizes = []int{251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521}

// slotsPerNode is how many slots a node with endpoints has at least. The cap of a node
// is rounded up to a whole slot: with fewer slots that shows in the shares.
const slotsPerNode = 100

// sizeFor is the number of slots for n nodes with endpoints.
func sizeFor(n int) int {
	for _, size := range sizes {
		if size >= slotsPerNode*n {
			return size
		}
	}
	return sizes[len(sizes)-1]
}

// maxWeight bounds how often a node is hashed for a slot.
const maxWeight = 256

// Table says which node is the primary of each slot, and in which order the others
// follow. It is a function of the Seed and the Members alone. Services whose Members are
// equal share one.
type Table struct {
	Members []Member // sorted by name, each once
	Primary []uint16 // by slot: an index of Members; empty if no node has an endpoint
	seed    Seed
	hashes  []uint64 // by member
	weights []int    // by member, at most maxWeight
}

// New makes a Table. The members need no order, and their names are different.
func New(seed Seed, members []Member) *Table {
	t := &Table{seed: seed, Members: slices.Clone(members)}
	slices.SortFunc(t.Members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	heaviest, serving := 1, 0
	for _, m := range t.Members {
		t.hashes = append(t.hashes, seed.hashName(m.Name))
		heaviest = max(heaviest, m.Weight)
		if m.Weight > 0 {
			serving++
		}
	}
	for _, m := range t.Members {
		w := max(m.Weight, 0)
		if heaviest > maxWeight { // in proportion, rounded up: who has one endpoint keeps a share
			w = (w*maxWeight + heaviest - 1) / heaviest
		}
		t.weights = append(t.weights, w)
	}
	if serving > 0 {
		t.Primary = t.assign(sizeFor(serving))
	}
	return t
}

// Slot is the slot of a hash. Slots are ranges of hashes, so that a slot of a Table of
// another size covers few of this one's (see Memory).
func (t *Table) Slot(hash uint64) int { return slotOf(hash, len(t.Primary)) }

func slotOf(hash uint64, size int) int { return int(hash >> 32 * uint64(size) >> 32) }

// candidate is a member as a slot sees it.
type candidate struct {
	member uint16
	score  uint64
}

// byScore sorts the highest score first, and equal ones by name.
func byScore(a, b candidate) int {
	return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.member, b.member))
}

// score is the weighted rendezvous of a member and a slot: the best of as many draws as
// the member has weight. A weight that grows by one adds a draw and changes no other, so
// only slots that the new draw wins move. Where the weight is 0 there is one draw.
func (t *Table) score(size, slot, member int) uint64 {
	best := uint64(0)
	base := mix(t.hashes[member] ^ uint64(size)<<32 ^ uint64(slot))
	for i := range max(t.weights[member], 1) {
		best = max(best, mix(base+uint64(i)*0x9e3779b97f4a7c15))
	}
	return best
}

// first are the first k members in the order of a slot: those with endpoints, then the
// others.
func (t *Table) first(k, size, slot int) []candidate {
	list := make([]candidate, 0, k+1)
	for i := range t.Members {
		c := candidate{uint16(i), t.score(size, slot, i)}
		at, _ := slices.BinarySearchFunc(list, c, t.byPreference)
		if list = slices.Insert(list, at, c); len(list) > k {
			list = list[:k]
		}
	}
	return list
}

func (t *Table) byPreference(a, b candidate) int {
	return cmp.Or(cmp.Compare(t.without(a), t.without(b)), byScore(a, b))
}

// without is 1 for a member without endpoints, which comes after those that have some.
func (t *Table) without(c candidate) int {
	if t.weights[c.member] == 0 {
		return 1
	}
	return 0
}

// caps are how many slots each member may have: its share and 1 %, rounded up.
func (t *Table) caps(size int) []int {
	total := 0
	for _, w := range t.weights {
		total += w
	}
	caps := make([]int, len(t.weights))
	for i, w := range t.weights {
		caps[i] = (size*w*101 + total*100 - 1) / (total * 100)
	}
	return caps
}

// assign gives each slot the first member in its order that has room. A member that is
// full prefers the slots for which it scores highest: a slot with a lower score asks its
// next member. The result does not depend on the order in which slots ask, and a change
// of one member moves few slots of others.
func (t *Table) assign(size int) []uint16 {
	caps, held := t.caps(size), make([]claims, len(t.Members))
	asks := make([]asking, size)
	for slot := range size {
		for at := slot; at >= 0; {
			c := asks[at].next(t, size, at)
			at = held[c.member].offer(caps[c.member], claim{at, c.score})
		}
	}
	primary := make([]uint16, size)
	for member, list := range held {
		for _, c := range list {
			primary[c.slot] = uint16(member)
		}
	}
	return primary
}

// asking is how far a slot has come in its order.
type asking struct {
	order []candidate
	asked int
}

// next is whom the slot asks next. Few slots ask more than the first few.
func (a *asking) next(t *Table, size, slot int) candidate {
	const few = 3
	switch {
	case a.order == nil:
		a.order = t.first(few, size, slot)
	case a.asked == len(a.order):
		a.order = t.first(len(t.Members), size, slot)
	}
	a.asked++
	return a.order[a.asked-1]
}

// claim is a slot that a member holds.
type claim struct {
	slot  int
	score uint64
}

// claims are the slots that a member holds: a heap with the lowest score first.
type claims []claim

func (c claims) Len() int { return len(c) }
func (c claims) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(c[i].score, c[j].score), cmp.Compare(c[i].slot, c[j].slot)) < 0
}
func (c claims) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c *claims) Push(x any)   { *c = append(*c, x.(claim)) }
func (c *claims) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

// offer takes a slot, and returns the one that has to leave for it: maybe the same, and
// -1 for none.
func (c *claims) offer(limit int, new claim) int {
	heap.Push(c, new)
	if len(*c) <= limit {
		return -1
	}
	return heap.Pop(c).(claim).slot
}
