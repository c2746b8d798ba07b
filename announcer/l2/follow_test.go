package l2

import (
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// Somebody removes the table by which the kernel answers: that is noticed, and the next
// Sync repairs it, as often as it happens.
func TestRemovedTableIsRepaired(t *testing.T) {
	l := newLAN(t)
	ls := l.holder()
	woken := make(chan struct{}, 1)
	ls.Changed = func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	}
	l.run(t, ls)
	l.sync(t, ls, on4, on6)
	for _, command := range []string{"flush ruleset", "delete table netdev fairlead", "flush ruleset"} {
		l.node.Run(t, "nft", command)
		began := time.Now()
		nstest.Eventually(t, "the table to be back after "+command, func() bool {
			select {
			case <-woken:
				l.sync(t, ls, on4, on6)
			default:
			}
			return strings.Contains(l.node.Run(t, "nft", "list", "tables"), "netdev fairlead")
		})
		t.Logf("%s: repaired after %s", command, time.Since(began).Round(time.Millisecond))
		if mac := l.asks(t, vip4); mac != l.mac {
			t.Errorf("after %s %s is answered with %q, want %s", command, vip4, mac, l.mac)
		}
		if mac := l.asks(t, vip6); mac != l.mac {
			t.Errorf("after %s %s is answered with %q, want %s", command, vip6, mac, l.mac)
		}
	}
}
