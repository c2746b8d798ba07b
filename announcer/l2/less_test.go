package l2

import (
	"testing"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// A node whose kernel has no IPv6 answers for VIPs of IPv4.
func TestLessIPv6(t *testing.T) {
	nstest.NeedLess(t, "ipv6")
	l := lan{node: nstest.New(t, "node"), client: nstest.New(t, "client")}
	mac, _ := nstest.Wire(t, l.node, l.client, "198.18.0.1/24", "198.18.0.2/24")
	l.links = l.node.Netlink(t)
	if err := Probe(int(l.node.Handle)); err != nil {
		t.Error(err)
	}
	ls := l.holder()
	l.sync(t, ls, on4)
	if got := l.asks(t, vip4); got != mac.String() {
		t.Errorf("the client sees %s at %q, want %s", vip4, got, mac)
	}
	l.sync(t, ls)
	if got := l.asks(t, vip4); got != "" {
		t.Errorf("%s is answered with %s after it was withdrawn", vip4, got)
	}
}
