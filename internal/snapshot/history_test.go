package snapshot

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// What makers of Snapshots note is what a comparison finds, of any two of them. A copy
// that was changed is compared.
func TestDiffByHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := []*Snapshot{{}}
		all[0].Follows(nil, Changes{})
		for range rapid.IntRange(1, mostRecent+3).Draw(t, "snapshots") {
			last := all[len(all)-1]
			next := drawn(t, last)
			if rapid.IntRange(0, 9).Draw(t, "maker") == 0 { // another one begins
				last = nil
			}
			next.Follows(last, walk(last, next))
			all = append(all, next)
		}
		old, now := rapid.SampledFrom(all).Draw(t, "old"), rapid.SampledFrom(all).Draw(t, "now")
		check := func(what string, old, now *Snapshot) {
			got, want := Diff(old, now), walk(old, now)
			if len(got.Services)+len(want.Services) > 0 && !reflect.DeepEqual(got.Services, want.Services) {
				t.Errorf("%s: Services %v, want %v", what, got.Services, want.Services)
			}
			if len(got.Addresses)+len(want.Addresses) > 0 && !reflect.DeepEqual(got.Addresses, want.Addresses) {
				t.Errorf("%s: Addresses %v, want %v", what, got.Addresses, want.Addresses)
			}
		}
		check("as made", old, now)
		changed := *now
		changed.Services = nil
		check("a copy", old, &changed)
		check("back from a copy", &changed, now)
	})
}

// A reader that keeps up does not walk.
func TestHistoryIsUsed(t *testing.T) {
	one, two := &Snapshot{}, &Snapshot{Services: []*Service{{Ref: Ref{"ns", "a"}}}}
	one.Follows(nil, Changes{})
	two.Follows(one, Diff(one, two))
	if c, ok := noted(one, two); !ok || len(c.Services) != 1 {
		t.Errorf("noted %v, %t", c.Services, ok)
	}
	if _, ok := noted(two, one); ok {
		t.Error("the earlier Snapshot has what came later")
	}
}
