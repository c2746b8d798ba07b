package nftables

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// minSlots is how many slots exist before any Frontend needs them: binding a
// map to a rule later makes the kernel walk its elements.
const minSlots = 8

// variant says which of the parallel slot maps a list of endpoints is in: node
// ports have no address in their key, local lists are those of
// externalTrafficPolicy Local.
type variant struct{ nodePort, local bool }

var variants = [4]variant{{false, false}, {false, true}, {true, false}, {true, true}}

func (v variant) index() int {
	i := 0
	if v.nodePort {
		i = 2
	}
	if v.local {
		i++
	}
	return i
}

// name makes an object's name: ep, ep-local, np-ep, np-ep-local.
func (v variant) name(base string) string {
	if v.nodePort {
		base = "np-" + base
	}
	if v.local {
		base += "-local"
	}
	return base
}

func (v variant) ep(i int) string       { return v.name("ep") + "-" + strconv.Itoa(i) }
func (v variant) slot(i int) string     { return v.name("s") + "-" + strconv.Itoa(i) }
func (v variant) affinity(i int) string { return v.name("affinity") + "-" + strconv.Itoa(i) }
func (v variant) frontends() string     { return v.name("frontends") }

// stick is the chain that remembers slot i for t seconds.
func (v variant) stick(i, t int) string {
	return v.name("a") + "-" + strconv.Itoa(i) + "-" + strconv.Itoa(t)
}

// balance is a chain that spreads over n slots, remembering the choice for
// sticky seconds if that is not 0.
type balance struct {
	variant
	n, sticky int
}

func (b balance) String() string {
	s := b.name("lb") + "-" + strconv.Itoa(b.n)
	if b.sticky > 0 {
		s += "-sticky-" + strconv.Itoa(b.sticky)
	}
	return s
}

// parseBalance is the inverse of balance.String.
func parseBalance(s string) (balance, bool) {
	var b balance
	rest, np := strings.CutPrefix(s, "np-")
	rest, ok := strings.CutPrefix(rest, "lb-")
	if !ok {
		return b, false
	}
	rest, local := strings.CutPrefix(rest, "local-")
	count, timeout, sticky := strings.Cut(rest, "-sticky-")
	b.variant = variant{np, local}
	b.n, _ = strconv.Atoi(count)
	if sticky {
		b.sticky, _ = strconv.Atoi(timeout)
	}
	return b, b.n > 0 && b.String() == s
}

// isStick and isAffinity know the names of objects that come and go with a
// timeout.
func isStick(name string) bool { return strings.HasPrefix(strings.TrimPrefix(name, "np-"), "a-") }
func isAffinity(name string) bool {
	return strings.HasPrefix(strings.TrimPrefix(name, "np-"), "affinity-")
}

func compareBalance(a, b balance) int {
	return cmp.Or(cmp.Compare(a.index(), b.index()), cmp.Compare(a.sticky, b.sticky), cmp.Compare(a.n, b.n))
}

// shape says which of the objects that come in numbers exist.
type shape struct {
	slots    [4]int // by variant
	balances map[balance]bool
}

func newShape() shape {
	return shape{slots: [4]int{minSlots, minSlots, minSlots, minSlots}, balances: map[balance]bool{}}
}

// covers tells whether b's chain and its slots exist.
func (s shape) covers(b balance) bool { return s.balances[b] && s.slots[b.index()] >= b.n }

// grow adds what b needs. Slots double, so that they seldom grow.
func (s *shape) grow(b balance) {
	s.balances[b] = true
	for s.slots[b.index()] < b.n {
		s.slots[b.index()] *= 2
	}
}

// merge adds what other has and need not be pruned: chains without affinity
// stay for the next Service with that many endpoints, chains with a timeout
// only while some Frontend has that timeout.
func (s *shape) merge(other shape) {
	timeouts := map[int]bool{0: true}
	for b := range s.balances {
		timeouts[b.sticky] = true
	}
	for i, n := range other.slots {
		s.slots[i] = max(s.slots[i], n)
	}
	for b := range other.balances {
		if timeouts[b.sticky] {
			s.grow(b)
		}
	}
}

func (s shape) sorted() []balance {
	out := make([]balance, 0, len(s.balances))
	for b := range s.balances {
		out = append(out, b)
	}
	slices.SortFunc(out, compareBalance)
	return out
}
