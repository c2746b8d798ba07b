package bgp_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// TestRouter: a peer by interface is the one router on the link, and the default gateway
// that for IPv4 first. What leads to no router, or to several, is refused.
func TestRouter(t *testing.T) {
	router := func(link, addr string, gateway bool) snapshot.Router {
		return snapshot.Router{Link: link, Addr: netip.MustParseAddr(addr), Default: gateway}
	}
	one, two := router("eth0", "fe80::1%eth0", true), router("eth0", "fe80::2%eth0", false)
	four, other := router("eth0", "192.0.2.1", true), router("eth1", "fe80::1%eth1", false)
	link, gateway := snapshot.BGPPeer{Interface: "eth0"}, snapshot.BGPPeer{Gateway: true}
	for name, c := range map[string]struct {
		peer    snapshot.BGPPeer
		routers []snapshot.Router
		want    string // an address, or the reason of a refusal
	}{
		"the one on the link":       {link, []snapshot.Router{one, four, other}, "fe80::1%eth0"},
		"none on the link":          {link, []snapshot.Router{four, other}, "NoRouter"},
		"two on the link":           {link, []snapshot.Router{one, two}, "NoRouter"},
		"the gateway for IPv4":      {gateway, []snapshot.Router{one, four}, "192.0.2.1"},
		"the gateway for IPv6 only": {gateway, []snapshot.Router{one, two}, "fe80::1%eth0"},
		"no gateway":                {gateway, []snapshot.Router{two, other}, "NoRouter"},
	} {
		t.Run(name, func(t *testing.T) {
			c.peer.Name, c.peer.LocalASN = "p", 64500
			s := &snapshot.Snapshot{BGPPeers: []*snapshot.BGPPeer{&c.peer}}
			plan := bgp.Decide(bgp.Input{Snapshot: s, Node: "a", Routers: c.routers})
			got := ""
			for _, r := range plan.Refused {
				got = string(r.Reason)
			}
			for _, p := range plan.Peers {
				got = p.Addr.String()
			}
			if got != c.want {
				t.Errorf("got %q: %s", got, plan)
			}
		})
	}
	s := &snapshot.Snapshot{BGPPeers: []*snapshot.BGPPeer{
		{Name: "by-address", Addr: one.Addr, LocalASN: 64500}, {Name: "by-link", Interface: "eth0", LocalASN: 64500},
	}}
	plan := bgp.Decide(bgp.Input{Snapshot: s, Node: "a", Routers: []snapshot.Router{one}})
	if len(plan.Peers) != 1 || !strings.Contains(plan.String(), "refuse peer by-link SameAddress") {
		t.Errorf("two ways to one router:\n%s", plan)
	}
}
