package observe_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/observe"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// A Service with two addresses is announced if both are. Otherwise its condition speaks
// of what is wrong alone, and a foreign host comes before a missing owner.
func TestAnnouncedOfSeveral(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	by := func(addr netip.Addr) observe.Address { return observe.Address{By: []string{addr.String() + " by n1"}} }
	claimed := by(b)
	claimed.Finding.Claimant = "M"
	const next = ". Next: ask the cluster's administrator to find that device, or ask for another address"
	for _, tc := range []struct {
		name  string
		first observe.Address // a
		other observe.Address // b
		want  string
	}{
		{"both", by(a), by(b), "True Announced 192.0.2.1 by n1; 2001:db8::1 by n1"},
		{"one", by(a), observe.Address{}, "False NotAnnounced no node announces 2001:db8::1: no node has said why. Next: wait a few seconds; if it stays, ask the cluster's administrator"},
		{"none, one with a reason", observe.Address{}, observe.Address{Refusal: snapshot.Refusal{Reason: announcer.EngineNotReady, Message: "why"}},
			"False NotAnnounced no node announces 192.0.2.1, 2001:db8::1: a node is about to. Next: wait a few seconds; if it stays, ask the cluster's administrator"},
		{"a foreign host has one", by(a), observe.Address{Conflict: "M"},
			"False AddressConflict no node announces 2001:db8::1, because another device on the network has it (M)" + next},
		{"a foreign host has one, nobody the other", observe.Address{}, observe.Address{Conflict: "M"},
			"False AddressConflict no node announces 192.0.2.1: no node has said why; no node announces 2001:db8::1, because another device on the network has it (M)" + next},
		{"a foreign host claims one, nobody has the other", observe.Address{}, claimed,
			"False AddressConflict no node announces 192.0.2.1: no node has said why; another device on the network claims 2001:db8::1 too (M)" + next},
		{"a foreign host claims one", by(a), claimed,
			"True AddressConflict 192.0.2.1 by n1; 2001:db8::1 by n1; another device on the network claims 2001:db8::1 too (M)" + next},
	} {
		o := observe.Observed{Addresses: map[netip.Addr]observe.Address{a: tc.first, b: tc.other}}
		c := o.Announced(snapshot.Ref{}, []netip.Addr{a, b})
		if got := c.Status + " " + c.Reason + " " + c.Message; got != tc.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tc.name, got, tc.want)
		}
	}
}

// With the token of one node somebody reports a foreign host of the year 2099 on an address
// that another node announces, or is about to.
func TestAttackByAFalseConflict(t *testing.T) {
	addr, now := netip.MustParseAddr("192.0.2.1"), time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	record := &snapshot.Address{Addr: addr, UID: "u"}
	owner := &snapshot.NodeState{Electable: snapshot.Electable{Node: "a"}}
	forger := &snapshot.NodeState{Electable: snapshot.Electable{Node: "y"}, Findings: []snapshot.Finding{
		{Addr: addr, UID: "u", ProbedAt: now.AddDate(73, 0, 0), Conflict: "02:00:00:00:00:99"},
	}}
	s := &snapshot.Snapshot{Addresses: []*snapshot.Address{record}, NodeStates: []*snapshot.NodeState{owner, forger}}
	conflict := func() string {
		return observe.Merge(record, observe.Observe(s, now).Addresses[addr].Finding).Conflict
	}
	owner.Announces = []snapshot.Announced{{Addr: addr, Link: "eth0"}}
	if got := conflict(); got != "" {
		t.Errorf("while a node announces it: %s", got)
	}
	owner.Announces, owner.Findings = nil, []snapshot.Finding{{Addr: addr, UID: "u", ProbedAt: now}}
	if got := conflict(); got != "" {
		t.Errorf("a node found it free: %s", got)
	}
	t.Logf("attack: a conflict of the year 2099: passed over while a node announces the address, or finds it free")
}
