package director

import (
	"cmp"
	"slices"
)

// Places is the length of a chain.
const Places = 8

// NoMember is an empty place in a chain.
const NoMember = 0xffff

// Memory is who was primary of each slot before, the latest first. What a node does not
// remember, because it has just started, it finds in the order of the slot, or in the
// ring.
type Memory struct {
	former [][]string // by slot of the Table that it belongs to, at most Places names
}

// Next is the Memory that belongs to next, given the Table before and its Memory. Both
// may be nil. While no node has an endpoint, what was before stays.
func (m *Memory) Next(before, next *Table) *Memory {
	if m == nil {
		m = &Memory{}
	}
	var primary []string
	if before != nil {
		for _, p := range before.Primary {
			primary = append(primary, before.Members[p].Name)
		}
	}
	was := max(len(primary), len(m.former))
	if was == 0 {
		return &Memory{former: make([][]string, len(next.Primary))}
	}
	out := &Memory{former: make([][]string, cmp.Or(len(next.Primary), was))}
	for slot := range out.former {
		first, last := Overlap(slot, len(out.former), was)
		now := ""
		if len(next.Primary) > 0 {
			now = next.Members[next.Primary[slot]].Name
		}
		out.former[slot] = m.merged(primary, first, last, now)
	}
	return out
}

// Overlap are the first and last slot, of as many as there were, with hashes that are
// slot's now.
func Overlap(slot, size, before int) (first, last int) {
	lowest := (uint64(slot)<<32 + uint64(size) - 1) / uint64(size)
	highest := (uint64(slot+1)<<32 - 1) / uint64(size)
	return slotOf(lowest<<32, before), slotOf(highest<<32, before)
}

// merged are the primaries of some slots, then those before them, one after the other by
// age, without now and each once.
func (m *Memory) merged(primary []string, first, last int, now string) []string {
	var names []string
	add := func(list []string, at int) {
		if at < len(list) && list[at] != now && len(names) < Places && !slices.Contains(names, list[at]) {
			names = append(names, list[at])
		}
	}
	for slot := first; slot <= last; slot++ {
		add(primary, slot)
	}
	for age := range Places {
		for slot := first; slot <= last && slot < len(m.former); slot++ {
			add(m.former[slot], age)
		}
	}
	return names
}

// Chains are the chains of all slots, Places members each: the primary, those who were
// it before and are still Members, then the others in the order of the slot. They are
// what a packet's way is looked up in.
func (t *Table) Chains(m *Memory) []uint16 {
	index := make(map[string]uint16, len(t.Members))
	for i, member := range t.Members {
		index[member.Name] = uint16(i)
	}
	out := make([]uint16, 0, len(t.Primary)*Places)
	for slot, primary := range t.Primary {
		chain := []uint16{primary}
		if m != nil {
			for _, name := range m.former[slot] {
				if i, ok := index[name]; ok {
					chain = append(chain, i)
				}
			}
		}
		for _, c := range t.first(Places, len(t.Primary), slot) {
			if !slices.Contains(chain, c.member) {
				chain = append(chain, c.member)
			}
		}
		for len(chain) < Places {
			chain = append(chain, NoMember)
		}
		out = append(out, chain[:Places]...)
	}
	return out
}

// NumRings is how many orders of all members there are. A hash uses the one of its
// remainder.
const NumRings = 61

// Rings say who follows a member, in orders that depend on the members' names alone: what
// endpoints do never changes them. One for all Services.
type Rings struct {
	next [NumRings][]uint16 // by member
}

// NewRings makes the Rings of members, which are those of a Table and sorted as there.
func NewRings(seed Seed, members []Member) *Rings {
	r := &Rings{}
	for ring := range r.next {
		order := make([]candidate, len(members))
		for i, m := range members {
			order[i] = candidate{uint16(i), mix(seed.hashName(m.Name) + uint64(ring))}
		}
		slices.SortFunc(order, byScore)
		r.next[ring] = make([]uint16, len(members))
		for i, c := range order {
			r.next[ring][c.member] = order[(i+1)%len(order)].member
		}
	}
	return r
}

// Next is who follows a member in the ring of a hash.
func (r *Rings) Next(hash uint64, member int) int {
	return int(r.next[hash%NumRings][member])
}
