package steer

import (
	"fmt"
	"net/netip"
	"testing"
)

// A router keeps its table whatever other routers there are, and has one of its own also
// where there is hardly room.
func TestTables(t *testing.T) {
	var all []Detour
	for i := range 100 {
		via := netip.MustParseAddr(fmt.Sprintf("198.18.0.%d", i))
		for _, from := range []string{"10.1.0.1", "10.1.0.2"} {
			all = append(all, Detour{From: netip.MustParseAddr(from), Via: via, Link: 2})
		}
	}
	wide := Detours{First: 1000, Most: 1 << 20}
	alone, together := wide.tables(all[:2]), wide.tables(all)
	if g := (gateway{all[0].Via, 2}); len(alone) != 1 || alone[g] != together[g] {
		t.Errorf("table %d alone, %d with others", alone[g], together[g])
	}
	for _, d := range []Detours{wide, {First: 1000, Most: 100}} {
		seen := map[int]bool{}
		for g, table := range d.tables(all) {
			if seen[table] || table < d.First || table >= d.First+d.Most {
				t.Errorf("%v has table %d", g, table)
			}
			seen[table] = true
		}
		if len(seen) != 100 {
			t.Errorf("100 routers have %d tables", len(seen))
		}
	}
	if len(wide.tables([]Detour{{From: netip.MustParseAddr("10.1.0.1")}})) != 0 {
		t.Error("what is dropped has a table")
	}
}
