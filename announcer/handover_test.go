package announcer

import (
	"net/netip"
	"testing"
	"time"
)

// TestTakeOver: a node that comes back leaves its VIPs to their owners for TakeAfter; one
// that has been electable for long, and what is held already, do not wait.
func TestTakeOver(t *testing.T) {
	vip := netip.MustParseAddr("192.0.2.10")
	elected := []VIP{{Addr: vip, Links: []string{"eth0"}}}
	no := func(netip.Addr) bool { return false }
	var h Handover
	for _, tt := range []struct {
		name      string
		at        float64
		electable bool
		held      func(netip.Addr) bool
		take      bool
		until     time.Time
	}{
		{"it is back", 10, true, no, false, second(10.2)},
		{"it adopted what its last agent held", 10, true, func(netip.Addr) bool { return true }, true, time.Time{}},
		{"a moment later", 10.1, true, no, false, second(10.2)},
		{"the others have had the time", 10.2, true, no, true, time.Time{}},
		{"much later", 100, true, no, true, time.Time{}},
		{"it fails", 101, false, no, true, time.Time{}},
		{"and is back again", 200, true, no, false, second(200.2)},
	} {
		h.SetElectable(tt.electable, second(tt.at))
		take, until := h.TakeOver(elected, tt.held, second(tt.at))
		if !tt.electable {
			continue // nobody elects it
		}
		if (len(take) == 1) != tt.take || !until.Equal(tt.until) {
			t.Errorf("%s: takes %v, until %s", tt.name, take, until)
		}
	}
}
