package director

import "testing"

// The seed never changes: with another one every connection has another slot. It is
// FNV-1a of 64 bits.
func TestSeedOf(t *testing.T) {
	for uid, want := range map[string]Seed{"": 0xcbf29ce484222325, "a": 0xaf63dc4c8601ec8c} {
		if got := SeedOf(uid); got != want {
			t.Errorf("%q: got %#x, want %#x", uid, uint64(got), uint64(want))
		}
	}
}
