package nftables

import (
	"errors"
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
	for _, c := range []struct{ prev, want, slots string }{
		{"", "a b c", "a b c"},
		{"", "", ""},
		{"a b c", "", ""},
		{"a b c", "a b c", "a b c"},
		{"c b a", "a b c", "c b a"},
		{"a b c", "a c", "a c"},
		{"a b c d", "a c d", "a d c"},
		{"a b c", "b c", "c b"},
		{"a b c", "a c d", "a d c"},
		{"a b", "a b c d", "a b c d"},
		{"a b b c", "a c", "a c"}, // copies of an older version
		{"a a b b c", "a b c", "a c b"},
	} {
		if got := printSlots(assign(letters(c.prev), letters(c.want))); got != c.slots {
			t.Errorf("prev %q want %q: got %q, want %q", c.prev, c.want, got, c.slots)
		}
	}
}

// A chain has enough slots, and those that are never empty are taken. As endpoints come
// one by one, the number changes seldom.
func TestSlotCount(t *testing.T) {
	numbers := map[int]bool{}
	for n := range 10000 {
		count := slotCount(n)
		numbers[count] = true
		switch {
		case n <= exactSlots && count != n:
			t.Errorf("%d slots for %d endpoints", count, n)
		case n > count, n > 0 && n < full(count), 4*count > 5*n:
			t.Errorf("%d slots for %d endpoints, %d of them never empty", count, n, full(count))
		case slotCount(count) != count:
			t.Errorf("%d endpoints have %d slots, and so many others", n, count)
		}
	}
	if len(numbers) > 50 {
		t.Errorf("up to 10,000 endpoints have %d numbers of slots", len(numbers))
	}
}

// shares returns how likely it is that a packet to a Frontend with n endpoints takes
// each slot, and the likelihood that it takes none, by the rules of chain b.
func shares(l *Layout, b balance, n int) (slots []float64, none float64) {
	chains := map[string]Chain{}
	for _, c := range l.Chains {
		chains[c.Name] = c
	}
	slots = make([]float64, n)
	taken := map[string]int{}
	for i := range n {
		taken[variant{}.ep(i)] = i
	}
	var run func(name string, p float64) (back float64)
	run = func(name string, p float64) float64 {
		for _, r := range chains[name].Rules {
			back := 0.0
			switch s := r.Statements[0]; s.Verb {
			case DNAT:
				if i, ok := taken[s.Set]; ok {
					slots[i] += p
					return 0
				}
				back = p
			case Spread:
				for _, to := range s.Chains {
					if back += run(to, p/float64(len(s.Chains))); back > 0 && !s.Return {
						none += p // nothing follows a goto
					}
				}
			case Drop:
				none += p
				return 0
			}
			if p = back; p == 0 {
				return 0
			}
		}
		return p
	}
	none += run(b.String(), 1)
	return slots, none
}

// No endpoint is chosen more than 1.25 times as often as another, by any chain that a
// Frontend may keep. In the chain of a new one it is 1.06 times. No packet ends without
// an endpoint.
func TestShares(t *testing.T) {
	for _, count := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 21, 27, 35, 45, 57, 72} {
		b := balance{n: count}
		l := newLayout(IP4, DefaultMark)
		l.grow(b)
		l.fill()
		for n := full(count); n <= count; n++ {
			got, none := shares(l, b, n)
			bound := 1.25001
			if slotCount(n) == count {
				bound = 1.06
			}
			if least, most := slices.Min(got), slices.Max(got); most > bound*least || none > 0 {
				t.Errorf("%d endpoints in %d slots: from %f to %f of the packets, and %f go nowhere", n, count, least, most, none)
			}
		}
	}
}

// Whatever comes and goes: every endpoint has one slot, no slot of the first is empty,
// and an endpoint that stays keeps its slot if there is one.
func TestAssignProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var slots []netip.AddrPort
		for range rapid.IntRange(1, 8).Draw(t, "changes") {
			all := rapid.IntRange(1, 300).Draw(t, "endpoints")
			seed := rapid.Uint64().Draw(t, "which")
			want := subset(all, seed)
			next := assign(slots, want)
			if err := checkSlots(slots, next, want); err != nil {
				t.Fatalf("%d endpoints: %v", len(want), err)
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

// endpoints returns the distinct endpoints in slots, sorted.
func endpoints(slots []netip.AddrPort) []netip.AddrPort {
	out := slices.DeleteFunc(slices.Clone(slots), func(ep netip.AddrPort) bool { return !ep.IsValid() })
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}

func checkSlots(prev, next, want []netip.AddrPort) error {
	if got := endpoints(next); len(next) != len(want) || !slices.Equal(got, want) {
		return fmt.Errorf("slots %v, want %v", next, want)
	}
	for i, ep := range prev {
		if _, stays := find(want, ep); stays && i < len(next) && next[i] != ep {
			return fmt.Errorf("%s had slot %d", ep, i)
		}
	}
	if !slices.Equal(assign(next, want), next) {
		return errors.New("not stable")
	}
	return nil
}

// One endpoint more or less changes what two slots hold at most. Where the chain is the
// same, only data changes.
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
	changes := 0
	step := func(from, to int) {
		next, patches := r.Next(table(to))
		p, same := patches[0], first(r).cluster.over == first(next).cluster.over
		if !same {
			changes++
		}
		if same && p.static() {
			t.Errorf("from %d to %d endpoints: sets or chains change", from, to)
		}
		changed := map[string]int{} // elements by Frontend
		for _, e := range slices.Concat(p.Main().Del, p.Main().Add) {
			if set, _ := p.Layout.Set(e.Set); same && set.Data == nil {
				t.Errorf("from %d to %d endpoints: %s changes", from, to, e.Set)
			}
			changed[e.Key]++
		}
		for key, n := range changed {
			if most := 3; same && n > most {
				t.Errorf("from %d to %d endpoints: %d elements of %x", from, to, n, key)
			}
		}
		r = next
	}
	for n := 1; n < 300; n++ {
		step(n, n+1)
	}
	changes = 0
	for n := 300; n > 1; n-- {
		step(n, n-1)
	}
	for range 10 { // as when pods are replaced
		step(1, 2)
		step(2, 1)
	}
	if most := 12; changes > most {
		t.Errorf("the chain changed %d times", changes)
	}
}

// first returns the first Slots of r.
func first(r *Ruleset) *Slots { return slices.Collect(r.slots.All())[0] }
