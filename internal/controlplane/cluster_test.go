package controlplane

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

var (
	vip4, vip6 = netip.MustParseAddr("192.0.2.100"), netip.MustParseAddr("2001:db8::100")
	nodeA      = netip.MustParseAddr("192.0.2.1")
	nodeB      = netip.MustParseAddr("192.0.2.2")
	nodeC      = netip.MustParseAddr("192.0.2.3")
)

func link(prefixes ...string) snapshot.Link {
	l := snapshot.Link{Name: "eth0", Index: 2, MAC: "02:00:00:00:00:01"}
	for _, p := range prefixes {
		l.Prefixes = append(l.Prefixes, netip.MustParsePrefix(p))
	}
	return l
}

// elect returns who is elected for the address, as node sees it, when the nodes of fit are
// fit, the others are not, and stays keeps what it has.
func elect(c Config, node netip.Addr, fit map[netip.Addr]bool, stays netip.Addr) string {
	state := func(of netip.Addr) snapshot.Electable {
		e := snapshot.Electable{Node: Node(of), InSync: true, Protocol: announcer.Protocol, Links: []snapshot.Link{link("192.0.2.9/24")}}
		r := announcer.Report{Electable: e}
		World{Own: of, Fit: fit[of]}.Tell(&r)
		if of == stays {
			r.Stays = c.Addresses
		}
		return r.Electable
	}
	in := announcer.Input{
		Snapshot: c.Snapshot(World{Own: node, Members: c.Members, Fit: fit[node]}), Node: Node(node), Self: state(node),
		Alive: map[string]bool{}, Others: map[string]snapshot.Electable{}, Ready: map[netip.Addr]bool{vip4: true},
	}
	for _, m := range c.Members {
		in.Alive[Node(m)] = true
		if m != node {
			in.Others[Node(m)] = state(m)
		}
	}
	p := announcer.Decide(in)
	if len(p.Announce) == 1 {
		return Node(node)
	}
	return p.Owner(vip4)
}

// A node that is not fit is not elected while another one is, also if it has the address.
// While none is fit, who has the address keeps it. All nodes agree.
func TestElection(t *testing.T) {
	c := Config{Addresses: []netip.Addr{vip4}, Port: 6443, Members: []netip.Addr{nodeA, nodeB, nodeC}}
	for name, story := range map[string]struct {
		fit   []netip.Addr
		stays netip.Addr
		want  func(owner netip.Addr) bool
	}{
		"the fit one":                           {[]netip.Addr{nodeC}, netip.Addr{}, func(o netip.Addr) bool { return o == nodeC }},
		"the owner is fit and keeps it":         {[]netip.Addr{nodeA, nodeB, nodeC}, nodeB, func(o netip.Addr) bool { return o == nodeB }},
		"the owner is not":                      {[]netip.Addr{nodeA, nodeC}, nodeB, func(o netip.Addr) bool { return o != nodeB }},
		"none is fit, the owner keeps it":       {nil, nodeA, func(o netip.Addr) bool { return o == nodeA }},
		"none is fit, and another one has it":   {nil, nodeC, func(o netip.Addr) bool { return o == nodeC }},
		"none is fit, and nobody had it so far": {nil, netip.Addr{}, netip.Addr.IsValid},
	} {
		fit := map[netip.Addr]bool{}
		for _, f := range story.fit {
			fit[f] = true
		}
		var owners []string
		for _, node := range c.Members {
			owners = append(owners, elect(c, node, fit, story.stays))
		}
		owner, _ := netip.ParseAddr(owners[0])
		if owners[1] != owners[0] || owners[2] != owners[0] || !story.want(owner) {
			t.Errorf("%s: the nodes elect %v", name, owners)
		}
	}
}

// Over BGP each fit node announces; one that is not fit does so only if none is.
func TestReady(t *testing.T) {
	c := Config{Addresses: []netip.Addr{vip4}, BGP: BGP{ASN: 64500, Peers: []Peer{{nodeC, 64501}}}}
	redirected := map[netip.Addr]bool{vip4: true}
	other := announcer.Member{Node: "b", Candidate: true, Report: &announcer.Report{}}
	sick := other
	sick.Report = &announcer.Report{}
	World{}.Tell(sick.Report)
	for _, s := range []struct {
		fit    bool
		others []announcer.Member
		want   bool
	}{
		{true, []announcer.Member{other}, true},
		{false, []announcer.Member{other}, false},
		{false, []announcer.Member{sick}, true},
		{false, nil, true},
	} {
		got := c.Ready(World{Fit: s.fit}, announcer.View{Node: "a", Members: s.others}, redirected)
		if got[vip4] != s.want {
			t.Errorf("fit %t beside %v: announced %t, want %t", s.fit, s.others, got[vip4], s.want)
		}
	}
}

func TestOwn(t *testing.T) {
	links := []snapshot.Link{link("192.0.2.1/24", "2001:db8::1/64")}
	addrs := []netip.Addr{nodeA, netip.MustParseAddr("2001:db8::1")}
	for _, s := range []struct {
		cfg   Config
		links []snapshot.Link
		want  string
	}{
		{Config{Addresses: []netip.Addr{vip4}, Members: []netip.Addr{nodeB, nodeA}}, links, "192.0.2.1"},
		{Config{Addresses: []netip.Addr{vip4}, Members: []netip.Addr{nodeB, nodeC}}, links, "192.0.2.1"}, // a node that joins later
		{Config{Addresses: []netip.Addr{vip6}}, links, "2001:db8::1"},
		{Config{Addresses: []netip.Addr{vip4}, Members: addrs}, links, "both of this node"},
		{Config{Addresses: []netip.Addr{vip4}, Members: []netip.Addr{nodeB}}, nil, "--node-address"},
	} {
		own, err := s.cfg.Own(s.links, addrs)
		if got := fmt.Sprint(own, err); !strings.Contains(got, s.want) {
			t.Errorf("own of %v is %s, want %s", s.cfg, got, s.want)
		}
	}
}

func TestValidate(t *testing.T) {
	good := Config{Addresses: []netip.Addr{vip4}, Port: 6443, Members: []netip.Addr{nodeA}}
	for want, change := range map[string]func(*Config){
		"":                          func(*Config) {},
		"--address: give":           func(c *Config) { c.Addresses = nil },
		"--port":                    func(c *Config) { c.Port = 0 },
		"is an address of a member": func(c *Config) { c.Addresses = []netip.Addr{nodeA} },
		"clients can reach":         func(c *Config) { c.Addresses = []netip.Addr{netip.MustParseAddr("127.0.0.1")} },
		"--bgp-asn":                 func(c *Config) { c.BGP.Peers = []Peer{{nodeC, 64500}} },
		"--bgp-peer: give":          func(c *Config) { c.BGP.ASN = 64500 },
		"needs its AS number":       func(c *Config) { c.BGP = BGP{ASN: 64500, Peers: []Peer{{Addr: nodeC}}} },
	} {
		c := good
		change(&c)
		err := c.Validate()
		if (err == nil) != (want == "") || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v: %v, want %q", c, err, want)
		}
	}
}

// What is kept of the members is read again, and nothing else is.
func TestMembers(t *testing.T) {
	all := []netip.Addr{nodeA, nodeB, vip6}
	got, err := ParseMembers(FormatMembers(all))
	if err != nil || fmt.Sprint(got) != fmt.Sprint(all) {
		t.Errorf("read %v, %v", got, err)
	}
	for _, text := range []string{"not an address\n", strings.Repeat("192.0.2.1\n", mostMembers+1)} {
		if got, err := ParseMembers([]byte(text)); err == nil {
			t.Errorf("%.20q is read as %d members", text, len(got))
		}
	}
}
