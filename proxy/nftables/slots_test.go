package nftables

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// letters reads "a b a": endpoints by letter.
func letters(s string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, w := range strings.Fields(s) {
		out = append(out, numbered(int(w[0])))
	}
	return out
}

// numbered is endpoint i of as many as are needed.
func numbered(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18 + byte(i>>16), byte(i >> 8), byte(i)}), 80)
}

func printSlots(slots []netip.AddrPort) string {
	var words []string
	for _, ep := range slots {
		words = append(words, string(rune(ep.Addr().As4()[3])))
	}
	return strings.Join(words, " ")
}

func TestAssign(t *testing.T) {
	for _, c := range []struct {
		prev, want string
		n          int
		slots      string
	}{
		{"", "a b c", 3, "a b c"},
		{"", "", 0, ""},
		{"a b c", "", 0, ""},
		{"a b c", "a b c", 3, "a b c"},
		{"c b a", "a b c", 3, "c b a"},
		{"a b c", "a c", 2, "a c"},
		{"a b c d", "a c d", 3, "a d c"},
		{"a b c", "b c", 2, "c b"},
		{"a b c", "a c d", 3, "a d c"},
		{"a b", "a b c d", 4, "a b c d"},
		{"a b b c", "a c", 2, "a c"}, // copies of an older version

		// As above exactSlots, with fewer.
		{"", "a b", 5, "a a b b a"},
		{"a a b b a", "a b c", 5, "a a b b c"},
		{"a a b b c", "a b", 5, "a a b b a"},
		{"a a b b c", "a c", 5, "a a c a c"},
		{"a a b b c", "d", 5, "d d d d d"},
		{"a a a a b", "a b", 5, "a a a b b"},
	} {
		got := printSlots(assign(letters(c.prev), letters(c.want), c.n))
		if got != c.slots {
			t.Errorf("prev %q want %q in %d: got %q, want %q", c.prev, c.want, c.n, got, c.slots)
		}
	}
}

// The bounds of the numbers of slots: one for each endpoint up to 16, above at most 5,
// and no endpoint has more than 1.25 times as many as another. As endpoints come one by
// one, the number changes seldom.
func TestSlotCount(t *testing.T) {
	numbers := map[int]bool{}
	for n := range 10000 {
		count := slotCount(n)
		numbers[count] = true
		if n <= exactSlots {
			if count != n {
				t.Errorf("%d slots for %d endpoints", count, n)
			}
			continue
		}
		least, most := count/n, (count+n-1)/n
		if most > 5 || 4*most > 5*least {
			t.Errorf("%d endpoints: some have %d slots, some %d", n, least, most)
		}
	}
	if len(numbers) > 50 {
		t.Errorf("up to 10,000 endpoints have %d numbers of slots", len(numbers))
	}
}

// Whatever comes and goes: the shares are even, every endpoint has a slot, no slot is
// empty, and an endpoint that stays keeps as many of its slots as it may have.
func TestAssignProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var slots []netip.AddrPort
		for range rapid.IntRange(1, 8).Draw(t, "changes") {
			all := rapid.IntRange(1, 300).Draw(t, "endpoints")
			seed := rapid.Uint64().Draw(t, "which")
			want := subset(all, seed)
			count := slotCount(len(want))
			if rapid.Bool().Draw(t, "affinity") {
				count = len(want)
			}
			next := assign(slots, want, count)
			if err := checkSlots(slots, next, want, count); err != nil {
				t.Fatalf("%d endpoints in %d slots: %v", len(want), count, err)
			}
			slots = next
		}
	})
}

// subset returns some of n endpoints, sorted.
func subset(n int, seed uint64) []netip.AddrPort {
	r := rand.New(rand.NewPCG(seed, 1))
	var out []netip.AddrPort
	for i := range n {
		if r.IntN(8) > 0 {
			out = append(out, numbered(i))
		}
	}
	return out
}

func checkSlots(prev, next, want []netip.AddrPort, count int) error {
	if got := endpoints(next); !slices.Equal(got, want) {
		return fmt.Errorf("endpoints %v, want %v", got, want)
	}
	if len(want) == 0 {
		return nil
	}
	uses, kept, had := map[netip.AddrPort]int{}, map[netip.AddrPort]int{}, map[netip.AddrPort]int{}
	for i, ep := range next {
		uses[ep]++
		if i < len(prev) {
			had[prev[i]]++
			if prev[i] == ep {
				kept[ep]++
			}
		}
	}
	least := count / len(want)
	for ep, n := range uses {
		switch {
		case n != least && n != least+1:
			return fmt.Errorf("%s has %d slots of %d for %d", ep, n, count, len(want))
		case kept[ep] < min(least, had[ep]):
			return fmt.Errorf("%s keeps %d slots of %d, and has %d", ep, kept[ep], had[ep], n)
		}
	}
	switch {
	case len(next) != count:
		return fmt.Errorf("%d slots, want %d", len(next), count)
	case !slices.Equal(assign(next, want, count), next):
		return fmt.Errorf("not stable")
	}
	return nil
}

// One endpoint more or less changes what slots hold, and at most the number of slots of
// its own Frontend. Where the number is the same, only data changes.
func TestOneEndpointChangesData(t *testing.T) {
	table := func(n int) *proxy.Table {
		var out []*proxy.Frontend
		for i, kind := range []proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.NodePort} {
			f := &proxy.Frontend{Key: proxy.Key{Kind: kind, Family: snapshot.IPv4, Protocol: snapshot.TCP, Port: 80}}
			if kind != proxy.NodePort {
				f.Addr = addr(100, byte(i))
			}
			for e := range n {
				f.Cluster = append(f.Cluster, numbered(e))
			}
			out = append(out, f)
		}
		return &proxy.Table{Frontends: out}
	}
	r, _ := Adopt(nothing(), table(1), DefaultMark, false)
	step := func(from, to int) {
		next, patches := r.Next(table(to))
		p, same := patches[0], slotCount(from) == slotCount(to)
		if same && p.static() {
			t.Errorf("from %d to %d endpoints: sets or chains change", from, to)
		}
		changed := map[string]int{} // elements by Frontend
		for _, e := range slices.Concat(p.Del, p.Add) {
			if set, _ := p.Layout.Set(e.Set); same && set.Data == nil {
				t.Errorf("from %d to %d endpoints: %s changes", from, to, e.Set)
			}
			changed[e.Key]++
		}
		for key, n := range changed {
			if same && n > 2*5 {
				t.Errorf("from %d to %d endpoints: %d elements of %x", from, to, n, key)
			}
		}
		r = next
	}
	for n := 1; n < 300; n++ {
		step(n, n+1)
	}
	for n := 300; n > 1; n-- {
		step(n, n-1)
	}
}

func TestSlotCountFrom(t *testing.T) {
	counts := map[int]bool{}
	for n := range 2000 {
		counts[slotCount(n)] = true
	}
	for n := range 2000 {
		want := n
		for !counts[want] {
			want++
		}
		if got := slotCountFrom(n); got != want {
			t.Errorf("%d: %d, want %d", n, got, want)
		}
	}
}
