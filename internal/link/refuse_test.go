package link_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// TestRefuse: a packet to an address that is announced and held by nobody ends on the
// node. What is translated to an endpoint does not, nor what the node itself sends.
func TestRefuse(t *testing.T) {
	node, router := nstest.New(t, "node"), nstest.New(t, "router")
	nstest.Wire(t, node, router, "198.18.7.1/24", "198.18.7.2/24")
	for _, ns := range []nstest.Space{node, router} {
		ns.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	}
	node.Run(t, "ip", "addr", "add", "fd98:7::1/64", "dev", "eth0", "nodad")
	router.Run(t, "ip", "addr", "add", "fd98:7::2/64", "dev", "eth0", "nodad")
	node.Run(t, "ip", "route", "add", "default", "via", "198.18.7.2")
	node.Run(t, "ip", "route", "add", "default", "via", "fd98:7::2")
	router.Run(t, "ip", "route", "add", "198.19.0.0/24", "via", "198.18.7.1")
	router.Run(t, "ip", "route", "add", "fd98:19::/64", "via", "fd98:7::1")
	router.Run(t, "nft", "add table inet seen; add chain inet seen in { type filter hook prerouting priority 0; }; add rule inet seen in iifname eth0 ip daddr 198.19.0.0/24 counter; add rule inet seen in iifname eth0 ip6 daddr fd98:19::/64 counter")
	// A VIP with an endpoint, as the engine translates it.
	node.Run(t, "nft", "add table ip proxy; add chain ip proxy pre { type nat hook prerouting priority -100; }; add rule ip proxy pre ip daddr 198.19.0.9 dnat to 198.18.7.1")
	back := func() string {
		for _, addr := range []string{"198.19.0.1", "fd98:19::1"} {
			_, _ = router.Try("ping", "-c", "1", "-W", "1", "-t", "64", addr)
		}
		return router.Run(t, "nft", "list", "table", "inet", "seen")
	}
	var was []netip.Prefix
	refuse := func(prefixes ...string) {
		t.Helper()
		want := []netip.Prefix{}
		for _, p := range prefixes {
			want = append(want, netip.MustParsePrefix(p))
		}
		node.Do(t, func() error { return link.Refuse(want, was) })
		was = want
		var got []netip.Prefix
		node.Do(t, func() (err error) { got, err = link.Refused(); return err })
		if len(got) != len(want) {
			t.Errorf("refused are %v, and not %v", got, want)
		}
	}
	refuse("198.19.0.0/24", "198.19.0.1/32", "fd98:19::/64")
	refuse("198.19.0.0/24", "fd98:19::/64")
	if out := back(); strings.Count(out, "packets 0 ") != 2 {
		t.Errorf("packets came back to the router:\n%s", out)
	}
	router.Run(t, "ping", "-c", "1", "-W", "5", "198.19.0.9")
	if out := node.Run(t, "ip", "route", "get", "198.19.0.1"); !strings.Contains(out, "via 198.18.7.2") {
		t.Errorf("the node's own packets: %s", out)
	}
	node.Run(t, "ip", "route", "del", "unreachable", "198.19.0.0/24", "table", "7947")
	was = nil // somebody else has changed it
	refuse("198.19.0.0/24", "fd98:19::/64")
	refuse()
	if out := node.Run(t, "ip", "rule") + node.Run(t, "ip", "-6", "rule"); strings.Contains(out, "7947") {
		t.Errorf("the rules stay:\n%s", out)
	}
	if out := back(); strings.Contains(out, "packets 0 ") {
		t.Errorf("without it none came back, so this test shows nothing:\n%s", out)
	}
}
