package node

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/snapshot"
)

func TestDrains(t *testing.T) {
	for name, tt := range map[string]struct {
		node    *snapshot.Node
		removed bool
		want    bool
	}{
		"as usual":          {&snapshot.Node{Ready: true, Taints: []string{"node.kubernetes.io/disk-pressure"}}, false, false},
		"cordoned":          {&snapshot.Node{Ready: true, Unschedulable: true}, false, false},
		"shuts down":        {&snapshot.Node{ShuttingDown: true}, false, true},
		"being deleted":     {&snapshot.Node{Ready: true, Deleting: true}, false, true},
		"deleted":           {nil, false, true},
		"out of service":    {&snapshot.Node{Taints: []string{"a", taintOutOfService}}, false, true},
		"shutting down":     {&snapshot.Node{Taints: []string{taintShutdown}}, false, true},
		"fairlead is going": {&snapshot.Node{Ready: true}, true, true},
	} {
		in := Inputs{Node: "a", Snapshot: &snapshot.Snapshot{}, Removed: tt.removed}
		if tt.node != nil {
			tt.node.Name = "a"
			in.Snapshot.Nodes = []*snapshot.Node{tt.node}
		}
		if _, got := drains(in); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestRefusals: one reason for each address that is announced by no way. An address
// that BGP announces has none from layer 2.
func TestRefusals(t *testing.T) {
	addr := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, last}) }
	why := func(reason snapshot.Reason) snapshot.Refusal { return snapshot.Refusal{Reason: reason} }
	layer2 := []announcer.Refused{
		{Addr: addr(10), Refusal: why(announcer.NoCandidate)}, {Addr: addr(11), Refusal: why(announcer.NoCandidate)}, {Addr: addr(12), Refusal: why(announcer.NotOwner)},
	}
	routes := bgp.Plan{Announce: []bgp.VIP{{Addr: addr(10)}}, RefusedVIPs: []bgp.RefusedVIP{{Addr: addr(10), Refusal: why(bgp.NoNextHop)}, {Addr: addr(11), Refusal: why(bgp.NoPeer)}}}
	got := refusals(layer2, routes)
	if len(got) != 2 || got[0].Addr != addr(11) || got[0].Reason != bgp.NoPeer || got[1].Reason != announcer.NotOwner {
		t.Errorf("got %v", got)
	}
	if got := refusals(layer2, bgp.Plan{}); len(got) != 3 {
		t.Errorf("without BGP: %v", got)
	}
}

// While the gossip is cut, no node speaks of its MAC. What was remembered of them keeps
// this node from taking another one for a foreign host.
func TestOursWithoutGossip(t *testing.T) {
	in := Inputs{
		Node: "a", Snapshot: &snapshot.Snapshot{}, Sure: true, Engine: Engine{Known: true, InSync: true}, View: announcer.View{Node: "a"},
		Links: []snapshot.Link{{Name: "eth0", MAC: "02:00:00:00:00:0a"}}, MACs: []string{"02:00:00:00:00:0b"},
	}
	p, _ := Decide(in, Memory{})
	if ours := p.Announce.Layer2.Ours; len(ours) != 2 || !ours["02:00:00:00:00:0a"] || !ours["02:00:00:00:00:0b"] {
		t.Errorf("ours are %v", ours)
	}
}

// What is held is announced again when gossip says that a lost node is back, and when a node
// that was not heard on a link is heard there again.
func TestReturns(t *testing.T) {
	in := Inputs{Node: "a", Snapshot: &snapshot.Snapshot{}, Sure: true, Engine: Engine{Known: true, InSync: true}, View: announcer.View{Node: "a", Returns: 1}}
	in.Reach.Returns = 2
	if p, _ := Decide(in, Memory{}); p.Announce.Layer2.Returns != 3 {
		t.Errorf("layer 2 counts %d returns, want 3", p.Announce.Layer2.Returns)
	}
}

// A node does not offer the director a link on which others miss it, unless its agent speaks
// by that link. The link is back with the director as soon as it answers, and with the
// election a minute later.
func TestDirectorLeavesLostLinks(t *testing.T) {
	link := func(name, prefix string, index int) snapshot.Link {
		return snapshot.Link{Name: name, Index: index, MAC: fmt.Sprintf("02:00:00:00:00:%02x", index), Prefixes: []netip.Prefix{netip.MustParsePrefix(prefix)}}
	}
	links := []snapshot.Link{link("eth0", "192.0.2.1/24", 1), link("eth1", "198.51.100.1/24", 2)}
	elsewhere := &announcer.Report{Electable: snapshot.Electable{Node: "b", Links: []snapshot.Link{link("eth0", "192.0.2.2/24", 3), link("eth1", "198.51.100.2/24", 4)}}}
	in := Inputs{
		Node: "a", Now: time.Unix(1000, 0), Snapshot: &snapshot.Snapshot{}, Sure: true, Engine: Engine{Known: true, InSync: true}, Links: links,
		Director: &snapshot.DirectorState{Able: true, Links: snapshot.DirectorLinks(links, []string{"eth0", "eth1"})},
		View: announcer.View{Node: "a", Members: []announcer.Member{
			{Node: "a", Addr: netip.MustParseAddrPort("192.0.2.1:7946")}, {Node: "b", Candidate: true, Report: elsewhere},
		}},
	}
	var memory Memory
	for _, step := range []struct{ lost, want, elected string }{
		{"", "eth0 eth1", "eth0 eth1"}, {"eth1", "eth0", "eth0"}, {"", "eth0 eth1", "eth0"}, {"eth0", "eth0 eth1", ""}, {"", "eth0 eth1", ""},
	} {
		in.Now = in.Now.Add(time.Second)
		in.Reach.Lost = map[string][]string{"a": strings.Fields(step.lost)}
		var p Plan
		p, memory = Decide(in, memory)
		var has, elected []string
		for _, l := range p.Report.Director.Links {
			has = append(has, l.Name)
		}
		for _, l := range p.Report.Links {
			elected = append(elected, l.Name)
		}
		if !slices.Equal(has, strings.Fields(step.want)) || !slices.Equal(elected, strings.Fields(step.elected)) {
			t.Errorf("lost %q: the director has %v, want %s; to elections %v, want %s", step.lost, has, step.want, elected, step.elected)
		}
	}
	if len(in.Director.Links) != 2 {
		t.Errorf("what was given has changed: %v", in.Director.Links)
	}
}
