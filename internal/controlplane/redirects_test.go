package controlplane

import (
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// A node that is fit redirects. One that is not does so while it attracts packets all the
// same, so that they meet its kube-apiserver once it lives.
func TestRedirects(t *testing.T) {
	c := Config{Addresses: []netip.Addr{vip4}, Port: 6443}
	routed := c
	routed.BGP = BGP{ASN: 64500, Peers: []Peer{{nodeC, 64501}}}
	other := announcer.View{Node: Node(nodeA), Members: []announcer.Member{{Node: Node(nodeB), Candidate: true, Report: &announcer.Report{}}}}
	for name, s := range map[string]struct {
		cfg  Config
		fit  bool
		in   node.Inputs
		st   node.State
		want bool
	}{
		"fit":                         {cfg: c, fit: true, want: true},
		"not fit":                     {cfg: c},
		"the kernel answers":          {cfg: c, in: node.Inputs{Held: []announcer.Claim{{Addr: vip4, Link: "eth0"}}}, want: true},
		"it answers for another":      {cfg: c, in: node.Inputs{Held: []announcer.Claim{{Addr: vip6, Link: "eth0"}}}},
		"elected":                     {cfg: c, st: node.State{Elected: []announcer.VIP{{Addr: vip4}}}, want: true},
		"leaving":                     {cfg: c, st: node.State{Leaving: []announcer.VIP{{Addr: vip4}}}, want: true},
		"the owner waits for it":      {cfg: c, st: node.State{Refused: []announcer.Refused{{Addr: vip4, Owner: Node(nodeA)}}}, want: true},
		"another owns it":             {cfg: c, st: node.State{Refused: []announcer.Refused{{Addr: vip4, Owner: Node(nodeB)}}}},
		"BGP, another one is fit":     {cfg: routed, in: node.Inputs{View: other}},
		"BGP, none is fit":            {cfg: routed, want: true},
		"BGP, it is still announced":  {cfg: routed, in: node.Inputs{View: other}, st: node.State{Routed: []bgp.VIP{{Addr: vip4}}}, want: true},
		"layer 2, another one is fit": {cfg: c, in: node.Inputs{View: other}},
	} {
		s.in.Node, s.in.Own = Node(nodeA), []netip.Addr{nodeA}
		got := s.cfg.Redirects(World{Own: nodeA, Fit: s.fit}, []snapshot.Link{link("192.0.2.1/24")}, s.in, s.st)
		if _, redirected := got[vip4]; redirected != s.want || s.want && got[vip4] != nodeA {
			t.Errorf("%s: %v, want it redirected: %t", name, got, s.want)
		}
	}
}

func TestTargets(t *testing.T) {
	addrs := []netip.Addr{nodeA, netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("fe80::1")}
	c := Config{Addresses: []netip.Addr{vip4, vip6}}
	both := c.targets(nodeA, []snapshot.Link{link("192.0.2.1/24", "2001:db8::1/64")}, addrs)
	elsewhere := c.targets(nodeA, []snapshot.Link{link("192.0.2.1/24")}, addrs) // as with BGP
	for _, got := range []map[netip.Addr]netip.Addr{both, elsewhere} {
		if got[vip4] != nodeA || got[vip6] != addrs[1] {
			t.Errorf("the addresses are served at %v", got)
		}
	}
	if got := c.targets(nodeA, nil, addrs[:1]); got[vip6].IsValid() {
		t.Errorf("IPv6 is served at %v of a node without it", got[vip6])
	}
}
