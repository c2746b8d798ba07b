package agent

import (
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// vrf puts the node's link to router B into a VRF, whose table has that router. The main table
// has neither the router nor the link's networks.
func (w *twoNetworks) vrf(t *testing.T) {
	t.Helper()
	for _, command := range []string{
		"ip link add blue type vrf table 77", "ip link set blue up", "ip link set eth1 master blue",
		// Programs of the node listen in its VRFs too.
		"sysctl -qw net.ipv4.tcp_l3mdev_accept=1", "sysctl -qw net.ipv4.udp_l3mdev_accept=1",
	} {
		w.node.Run(t, strings.Fields(command)...)
	}
	for _, f := range bothFamilies {
		bits := map[snapshot.Family]string{snapshot.IPv4: "/24", snapshot.IPv6: "/64"}[f]
		w.node.Run(t, "ip", "addr", "replace", at(f, 3, 11).String()+bits, "dev", "eth1", "nodad") // IPv6 loses it
		w.node.Run(t, "ip", "route", "add", "default", "via", at(f, 3, 254).String(), "table", "77")
	}
}

// A link in a VRF carries VIPs. What came in by it reaches endpoints by the node's own routes,
// and is answered by the VRF's.
func TestVRF(t *testing.T) {
	nstest.NeedLink(t, "vrf")
	w := newTwoNetworks(t)
	w.vrf(t)
	state := w.state(t)
	found := ""
	for _, l := range state.Links {
		found += " " + l.Name
	}
	if found != " eth0 eth1 pod remote" {
		t.Errorf("links:%s", found)
	}
	w.sync(t)
	w.ask(t)
	if got := w.strayed(t); got != nil {
		t.Errorf("answers left by router A: %v", got)
	}
	// The rule goes with fairlead, and comes with the VRF.
	rules := func() string { return w.node.Run(t, "ip", "rule") + w.node.Run(t, "ip", "-6", "rule") }
	if n := strings.Count(rules(), "103:"); n != 2 {
		t.Errorf("%d rules lead inside:\n%s", n, rules())
	}
	w.node.Do(t, w.ways.end)
	if out := rules(); strings.Contains(out, "fwmark") {
		t.Errorf("left behind: %s", out)
	}
}
