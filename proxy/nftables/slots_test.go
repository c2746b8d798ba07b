package nftables

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// slotsOf reads "a b a*": endpoints by letter, a star for a copy.
func slotsOf(s string) []slot {
	var out []slot
	for _, w := range strings.Fields(s) {
		out = append(out, slot{letter(w[0]), strings.HasSuffix(w, "*")})
	}
	return out
}

func letter(b byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 1, b}), 80)
}

func letters(s string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, w := range strings.Fields(s) {
		out = append(out, letter(w[0]))
	}
	return out
}

func printSlots(slots []slot) string {
	var words []string
	for _, s := range slots {
		w := string(rune(s.ep.Addr().As4()[3]))
		if s.copy {
			w += "*"
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

func TestAssign(t *testing.T) {
	for _, c := range []struct {
		prev, want string
		sticky     bool
		slots      string
	}{
		{"", "a b c", false, "a b c"},
		{"", "", false, ""},
		{"a b c", "", true, ""},
		{"a b c", "a b c", false, "a b c"},
		{"c b a", "a b c", false, "c b a"},
		{"a b c", "a c", false, "a c"},
		{"a b c d", "a c d", false, "a d c"},
		{"a b c", "b c", false, "c b"},
		{"a b c", "a c d", false, "a d c"},
		{"a b", "a b c d", false, "a b c d"},
		{"a b* c", "a c", false, "a c"}, // affinity was switched off

		{"", "a b c", true, "a b c"},
		{"a b c", "a b", true, "a b"},
		{"a b c", "a c", true, "a a* c"},
		{"a b c d", "a d", true, "a a* d* d"},
		{"a a* c", "a c d", true, "a d c"},
		{"a a* c", "a", true, "a"},
		{"a b* b", "a b d", true, "a d b"},
		{"a a* c", "c", true, "c* c* c"},
		{"c* c* c", "c d", true, "d c* c"},
		{"a b", "b c d", true, "c b d"},
		{"a a* b", "a b c d", true, "a c b d"},
		{"a* b", "a b", true, "a b"}, // a copy whose original is gone
		{"a a b", "a b", true, "a a* b"},
	} {
		got := printSlots(assign(slotsOf(c.prev), letters(c.want), c.sticky))
		if got != c.slots {
			t.Errorf("prev %q want %q sticky %v: got %q, want %q", c.prev, c.want, c.sticky, got, c.slots)
		}
	}
}

// Whatever happens: every endpoint has exactly one slot that is not a copy, none
// is empty, the last is not a copy, nothing changes without a reason, and with
// affinity no endpoint that stays moves.
func TestAssignProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	var slots []slot
	for i := range 20000 {
		var want []netip.AddrPort
		for b := range byte(10) {
			if r.IntN(2) == 0 {
				want = append(want, letter('a'+b))
			}
		}
		sticky := r.IntN(4) > 0
		next := assign(slots, want, sticky)
		if err := checkSlots(slots, next, want, sticky); err != nil {
			t.Fatalf("%d: %q to %q, sticky %v: %v", i, printSlots(slots), printSlots(next), sticky, err)
		}
		slots = next
	}
}

func checkSlots(prev, next []slot, want []netip.AddrPort, sticky bool) error {
	if got := endpoints(next); !slices.Equal(got, want) {
		return fmt.Errorf("endpoints %v, want %v", got, want)
	}
	originals := 0
	for i, s := range next {
		if !s.ep.IsValid() {
			return fmt.Errorf("slot %d is empty", i)
		}
		if !s.copy {
			originals++
		}
		if sticky && !s.copy {
			at := slices.Index(prev, s)
			if at >= 0 && at != i {
				return fmt.Errorf("slot %d moved to %d", at, i)
			}
		}
	}
	switch {
	case originals != len(want):
		return fmt.Errorf("%d slots are no copies, want %d", originals, len(want))
	case !sticky && len(next) != len(want):
		return fmt.Errorf("%d slots for %d endpoints", len(next), len(want))
	case len(next) > 0 && next[len(next)-1].copy:
		return fmt.Errorf("the last slot is a copy")
	case !slices.Equal(assign(next, want, sticky), next):
		return fmt.Errorf("not stable")
	}
	return nil
}
