// Package diff compares sorted lists: what came, what went, and what changed. All
// lists are sorted by one order, which the caller names as a function like
// cmp.Compare. No function changes a list that it is given.
package diff

import (
	"cmp"
	"iter"
	"slices"
)

// Sorted iterates over the entries of two lists, in order: those that compare as
// equal are one pair. The first of a pair is nil if only new has the entry, the
// second is nil if only old has it. The pointers point into the lists. Where a list
// has several equal entries, each is paired once, in the order of the list.
func Sorted[A, B any](old []A, new []B, compare func(A, B) int) iter.Seq2[*A, *B] {
	return func(yield func(*A, *B) bool) {
		i, j := 0, 0
		for i < len(old) || j < len(new) {
			order := 0
			switch {
			case i == len(old):
				order = 1
			case j == len(new):
				order = -1
			default:
				order = compare(old[i], new[j])
			}
			var was *A
			var now *B
			if order <= 0 {
				was = &old[i]
				i++
			}
			if order >= 0 {
				now = &new[j]
				j++
			}
			if !yield(was, now) {
				return
			}
		}
	}
}

// Changed iterates like Sorted, but leaves out the pairs whose two values are
// equal (==). In lists of pointers that is the same pointer: compare is not called
// for them.
func Changed[T comparable](old, new []T, compare func(a, b T) int) iter.Seq2[*T, *T] {
	return func(yield func(*T, *T) bool) {
		// One change in a long list is the usual case.
		head, tail := Common(old, new)
		old, new = old[head:len(old)-tail], new[head:len(new)-tail]
		keys := func(a, b T) int {
			if a == b {
				return 0
			}
			return compare(a, b)
		}
		for was, now := range Sorted(old, new, keys) {
			same := was != nil && now != nil && *was == *now
			if !same && !yield(was, now) {
				return
			}
		}
	}
}

// Same reports whether a and b are the same entries of one array, as when their
// maker had nothing to change.
func Same[T any](a, b []T) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

// Common returns how many entries are equal (==) at the start of two lists, and how
// many are at the end, without those at the start. It makes the usual comparison
// cheap, of long lists with one change.
func Common[T comparable](old, new []T) (head, tail int) {
	n := min(len(old), len(new))
	for head < n && old[head] == new[head] {
		head++
	}
	for tail < n-head && old[len(old)-1-tail] == new[len(new)-1-tail] {
		tail++
	}
	return head, tail
}

// Apply returns the sorted list all without gone and with come, which both are
// sorted by the same order. A key in both is one entry that changes. Apply returns
// all itself if there is nothing to do, otherwise a new list, nil if it is empty. It
// costs a copy of all, and a Search for each key.
func Apply[T any](all, gone, come []T, compare func(a, b T) int) []T {
	if len(gone)+len(come) == 0 {
		return all
	}
	out := make([]T, 0, max(0, len(all)-len(gone)+len(come)))
	for was, now := range Sorted(gone, come, compare) {
		at, found := Search(all, *cmp.Or(was, now), compare)
		out, all = append(out, all[:at]...), all[at:]
		if was != nil && found {
			all = all[1:]
		}
		if now != nil {
			out = append(out, *now)
		}
	}
	if out = append(out, all...); len(out) == 0 {
		return nil
	}
	return out
}

// Search is slices.BinarySearchFunc for a place that is likely near the start: its cost
// grows with the logarithm of that place, not of the list's length.
func Search[E, T any](list []E, target T, compare func(E, T) int) (at int, found bool) {
	end := 1
	for end < len(list) && compare(list[end-1], target) < 0 {
		end *= 2
	}
	start := end / 2
	at, found = slices.BinarySearchFunc(list[start:min(end, len(list))], target, compare)
	return start + at, found
}
