package announcer

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// TestHandover: what goes to an able node is held for Linger, once; everything
// else is given up at once.
func TestHandover(t *testing.T) {
	vip := netip.MustParseAddr("192.0.2.10")
	was := []VIP{{Addr: vip, Links: []string{"eth0"}}}
	refused := func(reason snapshot.Reason, owner string) Plan {
		return Plan{Refused: []Refused{{Addr: vip, Owner: owner, Refusal: snapshot.Refusal{Reason: reason}}}}
	}
	alive := func(node string) bool { return node == "b" }
	for _, tt := range []struct {
		name   string
		next   Plan
		speaks func(string) bool
		held   bool
		until  time.Time
	}{
		{"another node takes it over", refused(NotOwner, "b"), alive, true, second(5).Add(Linger)},
		{"the other node's agent is silent for now", refused(NotOwner, "c"), alive, true, time.Time{}},
		{"this node may not be elected any more", refused(NotOwner, "b"), nil, false, time.Time{}},
		{"nobody can", refused(NoCandidate, ""), alive, false, time.Time{}},
		{"a foreign host has it", refused(AddressConflict, ""), alive, false, time.Time{}},
		{"its Service is gone", Plan{}, alive, false, time.Time{}},
		{"it stays", Plan{Announce: was}, alive, false, time.Time{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var h Handover
			keep, until := h.Linger(was, tt.next, tt.speaks, second(5))
			if held := len(keep) == 1; held != tt.held || !until.Equal(tt.until) {
				t.Errorf("held %v until %s", keep, until)
			}
		})
	}
	var h Handover
	for _, tt := range []struct {
		at   float64
		held bool
	}{{10, true}, {10.5, true}, {11, false}, {11.5, false}} {
		at := second(0).Add(time.Duration(tt.at * float64(time.Second)))
		if keep, _ := h.Linger(was, refused(NotOwner, "b"), alive, at); (len(keep) == 1) != tt.held {
			t.Errorf("at %.1f: %v", tt.at, keep)
		}
	}
	if keep, _ := h.Linger(was, Plan{Announce: was}, alive, second(12)); len(keep) != 0 {
		t.Error(keep)
	}
	if keep, _ := h.Linger(was, refused(NotOwner, "b"), alive, second(20)); len(keep) != 1 {
		t.Error("a second hand-over of the same address")
	}
}
