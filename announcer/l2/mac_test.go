package l2

import (
	"net/netip"
	"testing"
)

// Item 39e of the allocation's list: a link that gets another MAC address answers
// with it at the next Sync, for both families.
func TestNewMACIsAnswered(t *testing.T) {
	const mac = "02:00:5e:10:00:99"
	l := newLAN(t)
	ls := l.holder()
	l.sync(t, ls, on4, on6)
	l.node.Run(t, "ip", "link", "set", "eth0", "address", mac)
	l.sync(t, ls, on4, on6)
	for _, vip := range []netip.Addr{vip4, vip6} {
		if got := l.asks(t, vip); got != mac {
			t.Errorf("the client sees %s at %q, want %s", vip, got, mac)
		}
	}
}
