package director

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// someMembers are n members of random weights up to heaviest.
func someMembers(r *rand.Rand, n, heaviest int) []Member {
	members := make([]Member, n)
	for i := range members {
		members[i] = Member{fmt.Sprintf("node-%02d", i), 1 + r.IntN(heaviest)}
	}
	return members
}

// golden are the first bytes of a hash over everything that nodes must decide alike. A
// change of it is a change of the tables' format: nodes of two versions would disagree.
const golden = "58dccb95b5d796fd"

func TestGolden(t *testing.T) {
	h := sha256.New()
	put := func(v any) {
		if err := binary.Write(h, binary.BigEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	var before *Table
	var memory *Memory
	for _, n := range []int{1, 2, 3, 7, 12, 30} {
		table := New(7, someMembers(r, n, 300))
		memory = memory.Next(before, table)
		put(table.Primary)
		put(table.Chains(memory))
		rings := NewRings(7, table.Members)
		for _, ring := range rings.next {
			put(ring)
		}
		before = table
	}
	for _, addr := range []string{"198.18.0.7:1234", "[fd98::7]:1234"} {
		for _, proto := range []uint8{6, 17} {
			source := netip.MustParseAddrPort(addr)
			put(Seed(7).Hash(Flow{proto, source, netip.AddrPortFrom(source.Addr().Next(), 80)}))
		}
	}
	if got := hex.EncodeToString(h.Sum(nil)[:8]); got != golden {
		t.Errorf("%s, not %s", got, golden)
	}
}

// No node has more than 3 % over its share of slots, and one more.
func TestShares(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, n := range []int{2, 3, 6, 20, 50} {
		for _, heaviest := range []int{1, 5, 250} {
			table := New(Seed(r.Uint64()), someMembers(r, n, heaviest))
			held, total := make([]int, n), 0
			for _, p := range table.Primary {
				held[p]++
			}
			for _, m := range table.Members {
				total += m.Weight
			}
			for i, m := range table.Members {
				share := float64(len(table.Primary)*m.Weight) / float64(total)
				if float64(held[i]) > share*1.03+1 {
					t.Errorf("%d nodes to %d: %s of weight %d has %d slots, its share is %.1f", n, heaviest, m.Name, m.Weight, held[i], share)
				}
			}
		}
	}
}

// A change moves at most twice the slots that have to move.
func TestFewSlotsMove(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	moved, ideal := 0, 0.0
	for range 60 {
		members := someMembers(r, 3+r.IntN(15), 5)
		before := New(7, members)
		changed := slices.Clone(members)
		changed[r.IntN(len(changed))].Weight = r.IntN(6)
		after := New(7, changed)
		if len(before.Primary) != len(after.Primary) {
			continue
		}
		for slot, p := range before.Primary {
			if p != after.Primary[slot] {
				moved++
			}
		}
		ideal += hasToMove(before, after)
	}
	t.Logf("%d slots moved, at least %.0f had to", moved, ideal)
	if float64(moved) > 2*ideal {
		t.Errorf("%d slots moved, %.0f had to", moved, ideal)
	}
}

// hasToMove is what the members gain together.
func hasToMove(before, after *Table) float64 {
	total := func(t *Table) (sum float64) {
		for _, m := range t.Members {
			sum += float64(m.Weight)
		}
		return sum
	}
	gained := 0.0
	for i := range before.Members {
		was, is := float64(before.Members[i].Weight)/total(before), float64(after.Members[i].Weight)/total(after)
		gained += max(is-was, 0)
	}
	return gained * float64(len(before.Primary))
}

// A node that was the primary of a hash is in its chain, also when the number of slots has
// changed.
func TestMemory(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	weights := func(serving int) []Member {
		members := someMembers(r, 20, 5)
		for i := range members {
			if i >= serving {
				members[i].Weight = 0
			}
		}
		return members
	}
	var memory *Memory
	before := New(7, weights(4))
	hashes := make([]uint64, 1000)
	was := make([]string, len(hashes))
	for i := range hashes {
		hashes[i] = r.Uint64()
		was[i] = before.Members[before.Primary[before.Slot(hashes[i])]].Name
	}
	for _, serving := range []int{12, 0, 3} {
		table := New(7, weights(serving))
		memory = memory.Next(before, table)
		before = table
	}
	chains := before.Chains(memory)
	for i, hash := range hashes {
		chain := chains[before.Slot(hash)*Places:][:Places]
		if !slices.ContainsFunc(chain, func(m uint16) bool { return m != NoMember && before.Members[m].Name == was[i] }) {
			t.Fatalf("%x: %s is not in its chain", hash, was[i])
		}
	}
}

// A walk ends, and nowhere later than after MaxHops, with tables that have nothing in
// common and any sender.
func TestWalkEnds(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 40 {
		n := 1 + r.IntN(20)
		tables, chains := make([]*Table, n), make([][]uint16, n)
		for i := range tables {
			members := someMembers(r, n, 4)
			tables[i] = New(7, members)
			chains[i] = tables[i].Chains(nil)
		}
		rings := NewRings(7, tables[0].Members)
		at := Step{Hash: r.Uint64(), Me: r.IntN(n), Sender: -1}
		for {
			next, ok := tables[at.Me].Walk(chains[at.Me], rings, at)
			if !ok {
				break
			}
			if next == at.Me || at.Hop >= MaxHops {
				t.Fatalf("%d members: from %d to %d at hop %d", n, at.Me, next, at.Hop)
			}
			at = Step{Hash: at.Hash, Me: next, Sender: at.Me, Hop: at.Hop + 1}
		}
	}
}

// The ring visits every member once.
func TestRings(t *testing.T) {
	rings := NewRings(7, someMembers(rand.New(rand.NewPCG(6, 6)), 13, 3))
	for hash := range uint64(len(rings.next)) {
		seen := map[int]bool{}
		for at := 0; !seen[at]; at = rings.Next(hash, at) {
			seen[at] = true
		}
		if len(seen) != 13 {
			t.Fatalf("ring %d: %d members", hash, len(seen))
		}
	}
}

// BenchmarkTable is what a change of one Service's endpoints costs.
func BenchmarkTable(b *testing.B) {
	for _, n := range []int{6, 20, 100} {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			members := someMembers(rand.New(rand.NewPCG(7, 7)), n, 4)
			for b.Loop() {
				table := New(7, members)
				var m *Memory
				table.Chains(m.Next(table, table))
			}
		})
	}
}
