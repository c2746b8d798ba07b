package diff

import (
	"iter"
	"slices"
)

// blockSize is how many entries a block of a new Blocks has.
const blockSize = 256

// Blocks is a sorted list of entries that all differ by its order. It is never changed:
// Apply makes the list after it, which shares all but the blocks that differ. A slice
// of 50,000 pointers would be copied whole for each change, and be garbage soon. The zero
// value is empty.
type Blocks[T any] struct {
	blocks [][]T // none is empty
	n      int
}

// BlocksOf returns a list with the entries of a sorted one, which must not be changed
// later.
func BlocksOf[T any](sorted []T) Blocks[T] { return Blocks[T]{cut(nil, sorted), len(sorted)} }

// cut appends list to blocks, in pieces of blockSize.
func cut[T any](blocks [][]T, list []T) [][]T {
	for piece := range slices.Chunk(list, blockSize) {
		blocks = append(blocks, piece)
	}
	return blocks
}

// Len returns how many entries there are.
func (b Blocks[T]) Len() int { return b.n }

// All iterates over the entries, in order.
func (b Blocks[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, block := range b.blocks {
			for _, one := range block {
				if !yield(one) {
					return
				}
			}
		}
	}
}

// Find returns the entry of b that compares as equal to target.
func Find[E, T any](b Blocks[E], target T, compare func(E, T) int) (found E, ok bool) {
	at, _ := slices.BinarySearchFunc(b.blocks, target, func(block []E, t T) int { return compare(block[len(block)-1], t) })
	if at == len(b.blocks) {
		return found, false
	}
	i, ok := slices.BinarySearchFunc(b.blocks[at], target, compare)
	if ok {
		found = b.blocks[at][i]
	}
	return found, ok
}

// Apply is like the function Apply. It copies the blocks in which something is gone or
// comes, and the list of blocks.
func (b Blocks[T]) Apply(gone, come []T, compare func(a, b T) int) Blocks[T] {
	if len(gone)+len(come) == 0 {
		return b
	}
	if len(b.blocks) == 0 {
		return BlocksOf(Apply(nil, gone, come, compare))
	}
	out, left := Blocks[T]{make([][]T, 0, len(b.blocks)+1), b.n}, b.blocks
	for len(gone)+len(come) > 0 {
		at := min(firstOf(left, gone, compare), firstOf(left, come, compare))
		block := left[at]
		less, more := gone, come
		if at < len(left)-1 {
			less, more = upTo(gone, block[len(block)-1], compare), upTo(come, block[len(block)-1], compare)
		}
		gone, come = gone[len(less):], come[len(more):]
		next := Apply(block, less, more, compare)
		out.blocks, out.n, left = append(out.blocks, left[:at]...), out.n+len(next)-len(block), left[at+1:]
		if len(next) <= 2*blockSize && len(next) > 0 {
			out.blocks = append(out.blocks, next)
		} else {
			out.blocks = cut(out.blocks, next)
		}
	}
	out.blocks = append(out.blocks, left...)
	// What goes leaves small blocks behind.
	if len(out.blocks) > 4+4*out.n/blockSize {
		return BlocksOf(slices.Collect(out.All()))
	}
	return out
}

// firstOf returns which of blocks the first entry of a sorted list is in, or belongs to:
// the last one if it comes after all.
func firstOf[T any](blocks [][]T, list []T, compare func(a, b T) int) int {
	if len(list) == 0 {
		return len(blocks) - 1
	}
	at, _ := slices.BinarySearchFunc(blocks, list[0], func(block []T, first T) int { return compare(block[len(block)-1], first) })
	return min(at, len(blocks)-1)
}

// upTo returns the entries of a sorted list that do not come after last.
func upTo[T any](list []T, last T, compare func(a, b T) int) []T {
	at, found := Search(list, last, compare)
	if found {
		at++
	}
	return list[:at]
}
