package nftables

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/proxy"
)

// by is what a Frontend is looked up by.
type by uint8

// The ways. A range of ports has no port in its key: no other Service has the address.
const (
	byPort     by = iota // address, protocol and port
	byNodePort           // protocol and port
	byRange              // address and protocol
)

// prefix begins the names of what belongs to Frontends that are looked up so.
func (b by) prefix() string { return [...]string{"", "np-", "range-"}[b] }

// cutPrefix takes the prefix off a name.
func cutPrefix(name string) (string, by) {
	for _, b := range []by{byNodePort, byRange} {
		if rest, ok := strings.CutPrefix(name, b.prefix()); ok {
			return rest, b
		}
	}
	return name, byPort
}

// variant says which of the parallel slot maps a list of endpoints is in: by what their
// Frontend is looked up, and whether it is a local list, that of externalTrafficPolicy
// Local.
type variant struct {
	by    by
	local bool
}

var variants = [6]variant{{byPort, false}, {byPort, true}, {byNodePort, false}, {byNodePort, true}, {byRange, false}, {byRange, true}}

func (v variant) index() int {
	i := 2 * int(v.by)
	if v.local {
		i++
	}
	return i
}

// name makes an object's name: ep, ep-local, np-ep, range-ep-local.
func (v variant) name(base string) string {
	base = v.by.prefix() + base
	if v.local {
		base += "-local"
	}
	return base
}

func (v variant) ep(i int) string {
	if names := epNames[v.index()]; i < len(names) {
		return names[i]
	}
	return v.name("ep") + "-" + strconv.Itoa(i)
}

// epNames are the first names of maps, by variant and slot: each element of a slot has
// one, and there may be a million.
var epNames = func() (names [6][64]string) {
	for _, v := range variants {
		for i := range names[v.index()] {
			names[v.index()][i] = v.name("ep") + "-" + strconv.Itoa(i)
		}
	}
	return names
}()

func (v variant) slot(i int) string     { return v.name("s") + "-" + strconv.Itoa(i) }
func (v variant) try(i int) string      { return v.name("t") + "-" + strconv.Itoa(i) }
func (v variant) affinity(i int) string { return v.name("affinity") + "-" + strconv.Itoa(i) }
func (v variant) frontends() string     { return v.name("frontends") }

// share and full are the sets that hold which Frontends may remember how many
// clients, and which have remembered as many as they may. The lists of local
// endpoints have no others.
func (v variant) share() string { return variant{by: v.by}.name("share") }
func (v variant) full() string  { return variant{by: v.by}.name("full") }

// stick is the chain that remembers slot i for t seconds.
func (v variant) stick(i, t int) string {
	return v.name("a") + "-" + strconv.Itoa(i) + "-" + strconv.Itoa(t)
}

// balance is a chain that spreads over n slots, remembering the choice for
// sticky seconds if that is not 0. byClient: by a hash of the client, with no memory.
type balance struct {
	variant
	n, sticky int
	byClient  bool
}

func (b balance) String() string {
	s := b.name("lb") + "-" + strconv.Itoa(b.n)
	if b.sticky > 0 {
		s += "-sticky-" + strconv.Itoa(b.sticky)
	}
	if b.byClient {
		s += "-by-client"
	}
	return s
}

// parseBalance is the inverse of balance.String.
func parseBalance(s string) (balance, bool) {
	var b balance
	rest, by := cutPrefix(s)
	rest, ok := strings.CutPrefix(rest, "lb-")
	if !ok {
		return b, false
	}
	rest, local := strings.CutPrefix(rest, "local-")
	rest, b.byClient = strings.CutSuffix(rest, "-by-client")
	count, timeout, sticky := strings.Cut(rest, "-sticky-")
	b.variant = variant{by, local}
	b.n, _ = strconv.Atoi(count)
	if sticky {
		b.sticky, _ = strconv.Atoi(timeout)
	}
	return b, b.n > 0 && b.String() == s
}

// ofSlots reports whether a set or chain belongs to slots: the rules of these chains
// lead to such sets and chains alone.
func ofSlots(name string) bool {
	name, _ = cutPrefix(name)
	return name == variant{}.share() || name == variant{}.full() || slices.ContainsFunc([]string{"ep-", "affinity-", "lb-", "a-", "s-", "t-"}, func(prefix string) bool {
		return strings.HasPrefix(name, prefix)
	})
}

// possible reports whether a Frontend can need b.
func (b balance) possible() bool {
	timeout := time.Duration(b.sticky) * time.Second
	return proxy.AffinityTimeout(timeout) == timeout && (!b.byClient || b.n == clientBuckets && b.sticky == 0)
}

func compareBalance(a, b balance) int {
	return cmp.Or(cmp.Compare(a.index(), b.index()), cmp.Compare(a.sticky, b.sticky), cmp.Compare(a.n, b.n), strings.Compare(strconv.FormatBool(a.byClient), strconv.FormatBool(b.byClient)))
}
