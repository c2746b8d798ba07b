package l2

import (
	"net/netip"
	"strings"
	"testing"
)

// Item 39e of the allocation's list: a link that gets another MAC address
// answers with it, for both families, without anything being done: the kernel
// holds the VIPs.
func TestNewMACIsAnswered(t *testing.T) {
	const mac = "02:00:5e:10:00:99"
	l := newLAN(t)
	l.sync(t, l.holder(), on4, on6)
	l.node.Run(t, "ip", "link", "set", "eth0", "address", mac)
	l.client.Run(t, "ip", "neigh", "flush", "all")
	for _, vip := range []netip.Addr{vip4, vip6} {
		l.client.Run(t, "ping", "-c", "1", "-W", "10", vip.String())
		if neigh := l.client.Run(t, "ip", "neigh", "show", vip.String()); !strings.Contains(neigh, mac) {
			t.Errorf("the client sees %s at %q, want %s", vip, neigh, mac)
		}
	}
}
