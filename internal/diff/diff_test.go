package diff_test

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/test/layertest"
)

func TestPure(t *testing.T) { layertest.Pure(t) }

// entry is a key and a value, such as "a1".
type entry string

func byKey(a, b entry) int { return cmp.Compare(a[0], b[0]) }

func list(s string) []entry {
	var out []entry
	for _, w := range strings.Fields(s) {
		out = append(out, entry(w))
	}
	return out
}

// pairs prints what an iterator yields: "+b1" came, "-a1" went, "a1:a2" is in both.
func pairs(seq func(func(*entry, *entry) bool)) string {
	var words []string
	for was, now := range seq {
		switch {
		case was == nil:
			words = append(words, "+"+string(*now))
		case now == nil:
			words = append(words, "-"+string(*was))
		default:
			words = append(words, fmt.Sprintf("%s:%s", *was, *now))
		}
	}
	return strings.Join(words, " ")
}

func TestSortedAndChanged(t *testing.T) {
	for _, c := range []struct{ old, now, sorted, changed string }{
		{"", "", "", ""},
		{"", "a1 b1", "+a1 +b1", "+a1 +b1"},
		{"a1 b1", "", "-a1 -b1", "-a1 -b1"},
		{"a1 b1", "a1 b1", "a1:a1 b1:b1", ""},
		{"a1 b1 c1", "a1 b2 c1", "a1:a1 b1:b2 c1:c1", "b1:b2"},
		{"a1 c1", "b1 c1 d1", "-a1 +b1 c1:c1 +d1", "-a1 +b1 +d1"},
		{"a1 b1 d1", "a2 c1 d1", "a1:a2 -b1 +c1 d1:d1", "a1:a2 -b1 +c1"},
		{"a1 b1 c1", "a2 b1 c2", "a1:a2 b1:b1 c1:c2", "a1:a2 c1:c2"},
		{"a1 a2", "a1", "a1:a1 -a2", "-a2"},
		{"a1", "a1 a2 a3", "a1:a1 +a2 +a3", "+a2 +a3"},
	} {
		if got := pairs(diff.Sorted(list(c.old), list(c.now), byKey)); got != c.sorted {
			t.Errorf("Sorted(%q, %q): %q, want %q", c.old, c.now, got, c.sorted)
		}
		if got := pairs(diff.Changed(list(c.old), list(c.now), byKey)); got != c.changed {
			t.Errorf("Changed(%q, %q): %q, want %q", c.old, c.now, got, c.changed)
		}
	}
}

func TestCommon(t *testing.T) {
	for _, c := range []struct {
		old, now   string
		head, tail int
	}{
		{"", "", 0, 0},
		{"a1", "", 0, 0},
		{"a1 b1", "a1 b1", 2, 0},
		{"a1 b1 c1", "a1 c1", 1, 1},
		{"a1 a1", "a1", 1, 0},
		{"a1 b1", "a2 b1", 0, 1},
		{"a1 b1", "c1 d1", 0, 0},
	} {
		if head, tail := diff.Common(list(c.old), list(c.now)); head != c.head || tail != c.tail {
			t.Errorf("Common(%q, %q): %d, %d, want %d, %d", c.old, c.now, head, tail, c.head, c.tail)
		}
	}
}

// Breaking out of a loop ends it: an iterator that yields again panics.
func TestBreak(t *testing.T) {
	for _, compare := range []func(old, new []entry, compare func(a, b entry) int) iter.Seq2[*entry, *entry]{
		diff.Sorted[entry, entry], diff.Changed[entry],
	} {
		for was := range compare(list("a1 b1 c1"), nil, byKey) {
			if *was == "b1" {
				break
			}
		}
	}
}

func TestApply(t *testing.T) {
	for _, c := range []struct{ all, gone, come, want string }{
		{"a1 b1", "", "", "a1 b1"},
		{"", "", "a1", "a1"},
		{"a1", "a1", "", ""},
		{"a1 c1 d1", "c1", "b1 e1", "a1 b1 d1 e1"},
		{"a1 b1 c1", "b1", "b2", "a1 b2 c1"},
		{"a1 c1", "b1", "", "a1 c1"}, // is not there
	} {
		got := diff.Apply(list(c.all), list(c.gone), list(c.come), byKey)
		if !slices.Equal(got, list(c.want)) {
			t.Errorf("Apply(%q, %q, %q): %q, want %q", c.all, c.gone, c.come, got, c.want)
		}
		if (got == nil) != (c.want == "") {
			t.Errorf("Apply(%q, %q, %q) is %#v", c.all, c.gone, c.come, got)
		}
	}
}

// Sorted and Changed find what a map of each list finds, and Apply turns one list
// into the other with it.
func TestAgainstMaps(t *testing.T) {
	lists := rapid.Custom(func(t *rapid.T) []entry {
		var out []entry
		for key := 'a'; key < 'k'; key++ {
			if n := rapid.IntRange(0, 3).Draw(t, "value"); n > 0 { // 0: no entry with this key
				out = append(out, entry(fmt.Sprintf("%c%d", key, n)))
			}
		}
		return out
	})
	rapid.Check(t, func(t *rapid.T) {
		old, now := lists.Draw(t, "old"), lists.Draw(t, "now")
		all, changed := dumb(old, now)
		if got := pairs(diff.Sorted(old, now, byKey)); got != all {
			t.Errorf("Sorted: %q, want %q", got, all)
		}
		if got := pairs(diff.Changed(old, now, byKey)); got != changed {
			t.Errorf("Changed: %q, want %q", got, changed)
		}
		var gone, come []entry
		for was, is := range diff.Changed(old, now, byKey) {
			if was != nil {
				gone = append(gone, *was)
			}
			if is != nil {
				come = append(come, *is)
			}
		}
		for _, e := range now {
			at, found := diff.Search(old, e, byKey)
			if wantAt, want := slices.BinarySearchFunc(old, e, byKey); at != wantAt || found != want {
				t.Errorf("Search for %q in %q: %d, %t, want %d, %t", e, old, at, found, wantAt, want)
			}
		}
		before := slices.Clone(old)
		if got := diff.Apply(old, gone, come, byKey); !slices.Equal(got, now) {
			t.Errorf("Apply: %q, want %q", got, now)
		}
		if !slices.Equal(old, before) {
			t.Error("Apply changed its input")
		}
	})
}

// dumb is what Sorted and Changed shall yield for lists without equal keys, printed.
func dumb(old, now []entry) (all, changed string) {
	before, after := map[byte]entry{}, map[byte]entry{}
	keys := map[byte]bool{}
	for _, e := range old {
		before[e[0]], keys[e[0]] = e, true
	}
	for _, e := range now {
		after[e[0]], keys[e[0]] = e, true
	}
	var every, some []string
	for key := byte('a'); key <= 'z'; key++ {
		was, is := before[key], after[key]
		word := string(was + ":" + is)
		switch {
		case !keys[key]:
			continue
		case was == "":
			word = "+" + string(is)
		case is == "":
			word = "-" + string(was)
		}
		every = append(every, word)
		if was != is {
			some = append(some, word)
		}
	}
	return strings.Join(every, " "), strings.Join(some, " ")
}
