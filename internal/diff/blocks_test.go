package diff

import (
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// value is an entry with a key, so that it can be replaced.
type value struct{ key, version int }

func byNumber(a, b value) int { return cmp.Compare(a.key, b.key) }

// Whatever comes and goes, Blocks hold what a list holds, and none of them grows or
// shrinks without end.
func TestBlocksAgainstAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 3*blockSize).Draw(t, "entries")
		var all []value
		for i := range n {
			all = append(all, value{key: 10 * i})
		}
		blocks := BlocksOf(all)
		for step := range rapid.IntRange(1, 12).Draw(t, "steps") {
			var gone, come []value
			first, many := rapid.IntRange(0, 30*blockSize).Draw(t, "first"), rapid.SampledFrom([]int{1, 2, 20, 700}).Draw(t, "many")
			every, deletes := rapid.SampledFrom([]int{1, 7, 10}).Draw(t, "every"), rapid.Bool().Draw(t, "deletes")
			for key := first; key < first+many*every; key += every {
				if at, found := slices.BinarySearchFunc(all, value{key: key}, byNumber); found {
					gone = append(gone, all[at])
				}
				if !deletes {
					come = append(come, value{key, step})
				}
			}
			before := blocks
			was := slices.Collect(before.All())
			all, blocks = Apply(all, gone, come, byNumber), blocks.Apply(gone, come, byNumber)
			same(t, blocks, all)
			same(t, before, was)
		}
	})
}

func same(t *rapid.T, b Blocks[value], want []value) {
	if got := slices.Collect(b.All()); !slices.Equal(got, want) || b.Len() != len(want) {
		t.Fatalf("%d entries, want %d; got %v, want %v", b.Len(), len(want), got, want)
	}
	for _, block := range b.blocks {
		if len(block) == 0 || len(block) > 2*blockSize {
			t.Fatalf("a block of %d entries", len(block))
		}
	}
	if most := 4 + 4*len(want)/blockSize; len(b.blocks) > most && len(b.blocks) > 1 {
		t.Fatalf("%d blocks of %d entries", len(b.blocks), len(want))
	}
	for i := 0; i < len(want); i += 1 + len(want)/50 {
		v := want[i]
		if got, ok := Find(b, v.key, func(e value, key int) int { return cmp.Compare(e.key, key) }); !ok || got != v {
			t.Fatalf("found %v, %t, want %v", got, ok, v)
		}
	}
	if _, ok := Find(b, -1, func(e value, key int) int { return cmp.Compare(e.key, key) }); ok {
		t.Fatal("found what is not there")
	}
}

// One change of a long list copies one block.
func TestBlocksShareWhatStays(t *testing.T) {
	var all []value
	for i := range 100_000 {
		all = append(all, value{key: i})
	}
	was := BlocksOf(all)
	for _, key := range []int{0, 255, 256, 50_000, 99_999} {
		now := was.Apply([]value{{key, 0}}, []value{{key, 1}}, byNumber)
		shared := 0
		for i, block := range now.blocks {
			if Same(block, was.blocks[i]) {
				shared++
			}
		}
		if shared != len(was.blocks)-1 {
			t.Errorf("key %d: %d of %d blocks are shared", key, shared, len(was.blocks))
		}
	}
}
