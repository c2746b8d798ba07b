package l2

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/test/layertest"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

func TestMonotonic(t *testing.T) {
	layertest.Monotonic(t, map[string]string{
		"answers.followTable": "a deadline that is over at any time",
		"numberAt":            "the number of a word: serials read the clock once",
	})
}

// TestClockJumps: the machine's clock jumps by an hour while nodes watch each other and one
// announces. Each address stays answered, nobody is lost, and a node whose link dies is lost
// as before.
func TestClockJumps(t *testing.T) {
	nstest.JumpClock(t, 0) // skips the test elsewhere
	l := newLAN(t)
	ls := l.running(t)
	l.sync(t, ls, on4, on6)
	n := newWatchers(t, "198.18.0.%d/24")
	n.watched(t)
	for _, jump := range []time.Duration{time.Hour, -2 * time.Hour, time.Hour} {
		nstest.JumpClock(t, jump)
		for range 20 {
			l.sync(t, ls, on4, on6) // renews, in an emulator too late otherwise
			n.turns(t, "a", 1)
			for _, name := range watchedNodes {
				if lost := n.of[name].Seen().Lost; len(lost) > 0 {
					t.Fatalf("the clock jumped by %v, and %s calls %v lost", jump, name, lost)
				}
			}
		}
		for _, vip := range []netip.Addr{vip4, vip6} {
			nstest.Eventually(t, vip.String()+" is answered after the clock jumped by "+jump.String(), func() bool {
				l.sync(t, ls, on4, on6)
				return l.asks(t, vip) == l.mac
			})
		}
	}
	n.sw.Run(t, "ip", "link", "set", "to-x", "down")
	nstest.JumpClock(t, -time.Hour)
	for _, name := range []string{"a", "b"} {
		n.says(t, name, "x@eth0")
	}
	n.sw.Run(t, "ip", "link", "set", "to-x", "up")
	nstest.JumpClock(t, time.Hour)
	for _, name := range watchedNodes {
		n.says(t, name)
	}
}
