package allocator

import (
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"sort"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// num is an address as a number: neighbours and sizes become arithmetic.
type num struct{ hi, lo uint64 }

func numOf(a netip.Addr) num {
	if a.Is4() {
		b := a.As4()
		return num{0, uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return num{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (n num) addr(f snapshot.Family) netip.Addr {
	if f == snapshot.IPv4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(n.lo))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], n.hi)
	binary.BigEndian.PutUint64(b[8:], n.lo)
	return netip.AddrFrom16(b)
}

func (n num) less(o num) bool { return n.hi < o.hi || n.hi == o.hi && n.lo < o.lo }

// plus adds m and stops at the largest number.
func (n num) plus(m num) num {
	lo, carry := bits.Add64(n.lo, m.lo, 0)
	hi, over := bits.Add64(n.hi, m.hi, carry)
	if over != 0 {
		return num{math.MaxUint64, math.MaxUint64}
	}
	return num{hi, lo}
}

// minus subtracts m and stops at zero.
func (n num) minus(m num) num {
	if n.less(m) {
		return num{}
	}
	lo, borrow := bits.Sub64(n.lo, m.lo, 0)
	hi, _ := bits.Sub64(n.hi, m.hi, borrow)
	return num{hi, lo}
}

// int64 saturates at MaxInt64.
func (n num) int64() int64 {
	if n.hi != 0 || n.lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(n.lo)
}

var numOne = num{0, 1}

// buggy reports whether old routers and phones take an IPv4 address for the name
// or the broadcast address of a /24: it ends in .0 or .255.
func buggy(n num) bool { b := byte(n.lo); return b == 0 || b == 255 }

// span is an interval of addresses, both ends included.
type span struct{ from, to num }

func (s span) overlaps(o span) bool { return !s.to.less(o.from) && !o.to.less(s.from) }

// size is the number of addresses in s; with avoid without the buggy ones.
func (s span) size(avoid bool) num {
	n := s.to.minus(s.from).plus(numOne)
	if avoid {
		n = n.minus(num{0, buggyBelow(s.to.lo+1) - buggyBelow(s.from.lo)})
	}
	return n
}

// buggyBelow counts the buggy IPv4 addresses below n.
func buggyBelow(n uint64) uint64 { return n/256*2 + min(n%256, 1) }

// trim cuts buggy addresses off both ends; false if nothing is left.
func (s span) trim() (span, bool) {
	for !s.to.less(s.from) && buggy(s.from) {
		s.from = s.from.plus(numOne)
	}
	for !s.to.less(s.from) && buggy(s.to) {
		s.to = s.to.minus(numOne)
	}
	return s, !s.to.less(s.from)
}

// merge sorts spans and joins those that touch.
func merge(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int {
		if a.from.less(b.from) {
			return -1
		}
		if b.from.less(a.from) {
			return 1
		}
		return 0
	})
	var out []span
	for _, s := range spans {
		if last := len(out) - 1; last >= 0 && !out[last].to.plus(numOne).less(s.from) {
			if out[last].to.less(s.to) {
				out[last].to = s.to
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// without returns sorted, merged spans but for what cut has of them.
func without(spans []span, cut span) []span {
	var out []span
	for _, s := range spans {
		if !s.overlaps(cut) {
			out = append(out, s)
			continue
		}
		if s.from.less(cut.from) {
			out = append(out, span{s.from, cut.from.minus(numOne)})
		}
		if cut.to.less(s.to) {
			out = append(out, span{cut.to.plus(numOne), s.to})
		}
	}
	return out
}

// within reports whether sorted, merged spans contain n.
func within(spans []span, n num) bool {
	i := sort.Search(len(spans), func(i int) bool { return n.less(spans[i].from) }) - 1
	return i >= 0 && !spans[i].to.less(n)
}

// chunkMax bounds how many spans move when one is inserted.
const chunkMax = 256

// freeSet is the free addresses of one pool and family as sorted spans, in
// chunks like the leaves of a B-tree. Its size is that of the holes, not that
// of the pool. With avoid it never begins or ends a span with a buggy address,
// so that the lowest free address is always the first of the first span.
type freeSet struct {
	chunks [][]span
	avoid  bool
}

func newFreeSet(spans []span, avoid bool) freeSet {
	f := freeSet{avoid: avoid}
	var all []span
	for _, s := range spans {
		all = f.appendSpan(all, s)
	}
	for c := range slices.Chunk(all, chunkMax) {
		f.chunks = append(f.chunks, slices.Clip(c))
	}
	return f
}

// appendSpan appends what of s may be given.
func (f *freeSet) appendSpan(to []span, s span) []span {
	if s.to.less(s.from) {
		return to
	}
	if f.avoid {
		var ok bool
		if s, ok = s.trim(); !ok {
			return to
		}
	}
	return append(to, s)
}

// lowest returns the lowest free address; false if there is none.
func (f *freeSet) lowest() (num, bool) {
	if len(f.chunks) == 0 {
		return num{}, false
	}
	return f.chunks[0][0].from, true
}

// find returns where the last span that begins at or below n is; c is -1 if
// there is none.
func (f *freeSet) find(n num) (c, i int) {
	c = sort.Search(len(f.chunks), func(i int) bool { return n.less(f.chunks[i][0].from) }) - 1
	if c < 0 {
		return -1, -1
	}
	chunk := f.chunks[c]
	return c, sort.Search(len(chunk), func(i int) bool { return n.less(chunk[i].from) }) - 1
}

// remove removes n, and reports whether it was free.
func (f *freeSet) remove(n num) bool {
	c, i := f.find(n)
	if c < 0 || f.chunks[c][i].to.less(n) {
		return false
	}
	s := f.chunks[c][i]
	var rest [2]span
	left := rest[:0]
	if s.from.less(n) {
		left = f.appendSpan(left, span{s.from, n.minus(numOne)})
	}
	if n.less(s.to) {
		left = f.appendSpan(left, span{n.plus(numOne), s.to})
	}
	f.splice(c, i, i+1, left...)
	return true
}

// putBack puts n back, which must belong to the pool.
func (f *freeSet) putBack(n num) {
	if f.avoid && buggy(n) {
		return
	}
	s := span{n, n}
	c, i := f.find(n)
	if c < 0 {
		f.putFirst(s)
		return
	}
	before := f.chunks[c][i]
	if !before.to.less(n) {
		return
	}
	if nc, ni, ok := f.next(c, i); ok && f.chunks[nc][ni].from == n.plus(numOne) {
		s.to = f.chunks[nc][ni].to
		f.splice(nc, ni, ni+1)
	}
	if before.to.plus(numOne) == n {
		f.chunks[c][i].to = s.to
		return
	}
	f.splice(c, i+1, i+1, s)
}

// putFirst puts s before all others.
func (f *freeSet) putFirst(s span) {
	switch {
	case len(f.chunks) == 0:
		f.chunks = [][]span{{s}}
	case f.chunks[0][0].from == s.to.plus(numOne):
		f.chunks[0][0].from = s.from
	default:
		f.splice(0, 0, 0, s)
	}
}

func (f *freeSet) next(c, i int) (int, int, bool) {
	if i+1 < len(f.chunks[c]) {
		return c, i + 1, true
	}
	return c + 1, 0, c+1 < len(f.chunks)
}

// splice replaces the spans from i to j of chunk c, and splits or removes the
// chunk as it grows or empties.
func (f *freeSet) splice(c, i, j int, with ...span) {
	chunk := slices.Replace(f.chunks[c], i, j, with...)
	switch {
	case len(chunk) == 0:
		f.chunks = slices.Delete(f.chunks, c, c+1)
	case len(chunk) > chunkMax:
		half := len(chunk) / 2
		f.chunks[c] = chunk[:half:half]
		f.chunks = slices.Insert(f.chunks, c+1, slices.Clone(chunk[half:]))
	default:
		f.chunks[c] = chunk
	}
}
