package record

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Every address counts once, by how it stands.
func TestStanding(t *testing.T) {
	addr := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, last}) }
	record := func(last byte) *snapshot.Address {
		return &snapshot.Address{Addr: addr(last), UID: string('0' + rune(last)), Holders: []snapshot.Holder{{UID: "u"}}}
	}
	taken := record(5)
	taken.Conflict = "02:00:00:00:00:99"
	on := func(last byte, link string) snapshot.Announced {
		return snapshot.Announced{Addr: addr(last), Link: link}
	}
	leaving := on(3, "eth0")
	leaving.Leaving = true
	s := &snapshot.Snapshot{
		Addresses: []*snapshot.Address{record(1), record(2), record(3), record(4), taken, record(6), record(7), {Addr: addr(8)}},
		NodeStates: []*snapshot.NodeState{
			{Electable: snapshot.Electable{Node: "a"}, Announces: []snapshot.Announced{on(1, "eth0"), on(1, "eth1"), on(2, "eth0"), on(3, "eth0"), {Addr: addr(7), Peers: 2}}},
			{Electable: snapshot.Electable{Node: "b"}, Announces: []snapshot.Announced{on(2, "eth0"), leaving, {Addr: addr(7), Peers: 2}},
				Refused: []snapshot.Refused{{Addr: addr(4), Refusal: snapshot.Refusal{Reason: "NoEndpoint"}}, {Addr: addr(6), Refusal: snapshot.Refusal{Reason: "NoCandidate"}}}},
		},
	}
	want := map[Standing]int{Announced: 3, Duplicated: 1, NoEndpoint: 1, Conflicting: 1, Unannounced: 1}
	if got := NetworkOf(s).count(s); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	s.NodeStates[0].Unlisted = 1
	if got := NetworkOf(s).count(s); got[Unlisted] != 1 || got[Unannounced] != 0 {
		t.Errorf("with a NodeState that does not list all: %v", got)
	}
}
