package nftables

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/proxy"
)

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

func (v variant) ep(i int) string {
	if names := epNames[v.index()]; i < len(names) {
		return names[i]
	}
	return v.name("ep") + "-" + strconv.Itoa(i)
}

// epNames are the first names of maps, by variant and slot: each element of a slot has
// one, and there may be a million.
var epNames = func() (names [4][64]string) {
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
func (v variant) share() string { return variant{nodePort: v.nodePort}.name("share") }
func (v variant) full() string  { return variant{nodePort: v.nodePort}.name("full") }

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
	rest, np := strings.CutPrefix(s, "np-")
	rest, ok := strings.CutPrefix(rest, "lb-")
	if !ok {
		return b, false
	}
	rest, local := strings.CutPrefix(rest, "local-")
	rest, b.byClient = strings.CutSuffix(rest, "-by-client")
	count, timeout, sticky := strings.Cut(rest, "-sticky-")
	b.variant = variant{np, local}
	b.n, _ = strconv.Atoi(count)
	if sticky {
		b.sticky, _ = strconv.Atoi(timeout)
	}
	return b, b.n > 0 && b.String() == s
}

// ofSlots reports whether a set or chain belongs to slots: the rules of these chains
// lead to such sets and chains alone.
func ofSlots(name string) bool {
	name = strings.TrimPrefix(name, "np-")
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
