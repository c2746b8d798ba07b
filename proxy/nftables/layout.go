package nftables

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/internal/diff"
)

// layoutVersion is the version of the static part: the sets, maps, chains and rules,
// but not what the sets and maps hold. It must be raised when that part changes. A
// table has an empty chain that is named by the version, "layout-7", because the
// kernel never changes the comment of a table that exists. A set, map or
// chain whose type or hook changes gets another name (see Late).
const layoutVersion = 7

// VersionChain returns the name of the chain that says which layout a table has.
func VersionChain() string { return "layout-" + strconv.Itoa(layoutVersion) }

// Layout is the static part of one family's table: its sets, chains and rules,
// but not what the sets hold. A few sets and chains exist once for each slot, or
// once for each number of slots and each timeout that a Frontend has; the others
// are always there. None of them goes while the table stays: there are few numbers
// of slots (slotCount), and few timeouts (proxy.AffinityTimeout).
type Layout struct {
	*Family
	Sets     []Set
	Chains   []Chain // their rules lead to any set and chain
	mark     uint32
	slots    [6]int           // by variant: how many slots have a map and a chain
	balances map[balance]bool // the chains that spread over slots
	byName   map[string]Set
}

// newLayout makes a Layout without balance chains. fill completes it.
func newLayout(f *Family, mark uint32) *Layout {
	// The slots of small Frontends exist from the start: binding a map to a rule later
	// makes the kernel walk its elements. Ranges of ports are rare: theirs come with them.
	return &Layout{Family: f, mark: mark, slots: [6]int{exactSlots, exactSlots, exactSlots, exactSlots}, balances: map[balance]bool{}}
}

// layoutFor makes the Layout that Frontends need, and what is there already; keep may
// be nil.
func layoutFor(f *Family, mark uint32, fronts diff.Blocks[*Slots], keep *Layout) *Layout {
	l := newLayout(f, mark)
	for p := range fronts.All() {
		if p.Family != f.ID {
			continue
		}
		for _, b := range p.balances() {
			if !l.covers(b) {
				l.grow(b)
			}
		}
	}
	if keep != nil {
		l.keep(keep)
	}
	return l.fill()
}

// covers reports whether b's chain and its slots exist.
func (l *Layout) covers(b balance) bool { return l.balances[b] && l.slots[b.index()] >= b.n }

// grow adds what b needs.
func (l *Layout) grow(b balance) {
	l.balances[b] = true
	l.slots[b.index()] = max(l.slots[b.index()], slotCount(b.n))
}

// keep adds what old has, for the next Service that needs it.
func (l *Layout) keep(old *Layout) {
	for i, n := range old.slots {
		l.slots[i] = max(l.slots[i], n)
	}
	for b := range old.balances {
		l.grow(b)
	}
}

// fill makes the sets and chains.
func (l *Layout) fill() *Layout {
	l.Sets, l.Chains = l.fixedSets(), l.fixedChains()
	for _, v := range variants {
		for i := range l.slots[v.index()] {
			l.Sets = append(l.Sets, l.epMap(v, i))
			l.Chains = append(l.Chains, l.tryChain(v, i), l.slotChain(v, i))
		}
	}
	affinities := map[variant]int{}
	sticks := map[balance]int{}
	for _, b := range slices.SortedFunc(maps.Keys(l.balances), compareBalance) {
		l.Chains = append(l.Chains, l.balanceChain(b))
		if b.sticky == 0 {
			continue
		}
		for ; affinities[b.variant] < b.n; affinities[b.variant]++ {
			l.Sets = append(l.Sets, l.affinitySet(b.variant, affinities[b.variant]))
		}
		per := balance{variant: b.variant, sticky: b.sticky}
		for ; sticks[per] < b.n; sticks[per]++ {
			l.Chains = append(l.Chains, l.stickChain(b.variant, sticks[per], b.sticky))
		}
	}
	l.byName = make(map[string]Set, len(l.Sets))
	for _, s := range l.Sets {
		l.byName[s.Name] = s
	}
	return l
}

// Set returns the set with a name.
func (l *Layout) Set(name string) (Set, bool) {
	s, ok := l.byName[name]
	return s, ok
}

// Sample returns a Patch that makes a table with one of each kind of set, chain and
// rule, and elements of each kind: what a kernel must be able to hold.
func Sample(f *Family, mark uint32) *Patch {
	l := newLayout(f, mark)
	for _, v := range variants {
		l.grow(balance{v, 2, 0, false})
		l.grow(balance{v, 2, 1, false})
		l.grow(balance{v, 2, 0, true})
	}
	first := strings.Repeat("\x00", f.AddrLen-1) + "\x01"
	front := first + "\x06\x00\x00\x00\x00\x01\x00\x00"
	p := (&Kernel{Family: f}).swap(l.fill())
	p.Main().AddTable, p.Main().Add = true, []Element{
		{Set: setLocalPods, Key: first, End: first},
		linkElement("a*"),
		{Set: SetSourceAllow, Key: front + first, End: front + first},
		{Set: setExternalCluster, Key: front, Comment: commentLocal},
		{Set: variant{}.frontends(), Key: front, Data: "goto " + balance{n: 2, sticky: 1}.String()},
		{Set: variant{}.ep(0), Key: front, Data: first + "\x00\x01\x00\x00"},
		{Set: setRangePorts, Key: front, End: front[:len(front)-4] + "\xff\xff\x00\x00"},
		{Set: variant{by: byRange}.ep(0), Key: front[:len(front)-4], Data: first},
	}
	return p
}
