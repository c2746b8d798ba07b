package agent

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Nodes reach the gossip, routers reach BFD if they are watched and BGP if they connect.
func TestGateWants(t *testing.T) {
	ip := netip.MustParseAddr
	s := &snapshot.Snapshot{Nodes: []*snapshot.Node{
		{Name: "a", InternalIPs: []netip.Addr{ip("192.0.2.2"), ip("2001:db8::2")}, ExternalIPs: []netip.Addr{ip("198.51.100.2")}},
		{Name: "b", InternalIPs: []netip.Addr{ip("192.0.2.1")}},
	}}
	self := &snapshot.Node{Name: "deleted", InternalIPs: []netip.Addr{ip("192.0.2.3")}}
	const nodes = "[192.0.2.1 192.0.2.2 192.0.2.3 198.51.100.2 2001:db8::2]"
	for _, c := range []struct {
		what  string
		peers []bgp.Peer
		want  string
	}{
		{"no router", nil, "{7947 " + nodes + " [] [] []}"},
		{"a router that we connect to", []bgp.Peer{{Addr: ip("192.0.2.254"), Port: 179}}, "{7947 " + nodes + " [] [] []}"},
		{"one that connects", []bgp.Peer{{Addr: ip("192.0.2.254"), Port: 179, Passive: true}}, "{7947 " + nodes + " [] [179] [192.0.2.254]}"},
		{"one that is watched", []bgp.Peer{{Addr: ip("fe80::1%eth0"), Port: 179, BFD: &bgp.BFD{}}}, "{7947 " + nodes + " [3784 4784] [] [fe80::1]}"},
	} {
		if got := fmt.Sprint(gateWants(s, self, 7947, bgp.Plan{Peers: c.peers})); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}
