package node

import (
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// TestLinger: what goes to a node that cannot take it over now is held on;
// everything else is given up at once.
func TestLinger(t *testing.T) {
	vip := netip.MustParseAddr("192.0.2.10")
	was := Memory{elected: announcer.Plan{Announce: []announcer.VIP{{Addr: vip, Links: []string{"eth0"}}}}}
	refused := func(reason snapshot.Reason, owner string) announcer.Plan {
		return announcer.Plan{Refused: []announcer.Refused{{Addr: vip, Owner: owner, Refusal: snapshot.Refusal{Reason: reason}}}}
	}
	in := Inputs{Node: "a", View: announcer.View{Members: []announcer.Member{{Node: "b"}, {Node: "c", Verdict: announcer.AgentGone}}}}
	all := func(netip.Addr) bool { return true }
	for _, tt := range []struct {
		name     string
		next     announcer.Plan
		eligible bool
		held     func(netip.Addr) bool
		keeps    bool
	}{
		{"another node takes it over", refused(announcer.NotOwner, "b"), true, all, false},
		{"the other node's agent is silent for now", refused(announcer.NotOwner, "c"), true, all, true},
		{"the other node was never met", refused(announcer.NotOwner, "d"), true, all, true},
		{"the kernel does not hold it", refused(announcer.NotOwner, "c"), true, func(netip.Addr) bool { return false }, false},
		{"this node may no longer be elected", refused(announcer.NotOwner, "c"), false, all, false},
		{"nobody can", refused(announcer.NoCandidate, ""), true, all, false},
		{"a foreign host has it", refused(announcer.AddressConflict, ""), true, all, false},
		{"its Service is gone", announcer.Plan{}, true, all, false},
		{"it stays", was.elected, true, all, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			election := announcer.Input{Alive: map[string]bool{"a": tt.eligible}, Self: snapshot.NodeState{InSync: true}}
			if keep := linger(in, election, was, tt.next, tt.held); (len(keep) == 1) != tt.keeps {
				t.Errorf("keeps %v", keep)
			}
		})
	}
}
