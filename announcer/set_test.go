package announcer_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

func TestClaims(t *testing.T) {
	vip4, vip6 := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")
	got := announcer.Claims([]announcer.VIP{{Addr: vip6, Links: []string{"eth1", "eth0"}}, {Addr: vip4, Links: []string{"eth0"}}})
	want := []announcer.Claim{{Addr: vip4, Link: "eth0"}, {Addr: vip6, Link: "eth0"}, {Addr: vip6, Link: "eth1"}}
	if !slices.Equal(got, want) {
		t.Errorf("Claims() = %v, want %v", got, want)
	}
}

// TestNewSet: MACs are ours if this node, gossip or a NodeState names them. What
// is recorded and disputed is passed on.
func TestNewSet(t *testing.T) {
	vip := netip.MustParseAddr("192.0.2.10")
	node := func(name, mac string) snapshot.Electable {
		return snapshot.Electable{Node: name, Links: []snapshot.Link{{Name: "eth0", MAC: mac}}}
	}
	silent := node("c", "02:00:00:00:00:03")
	in := announcer.Input{
		Self: node("a", "02:00:00:00:00:01"), Others: map[string]snapshot.Electable{"b": node("b", "02:00:00:00:00:02")},
		Snapshot: &snapshot.Snapshot{
			NodeStates: []*snapshot.NodeState{{Electable: silent}},
			Addresses:  []*snapshot.Address{{Addr: vip, UID: "u", ProbedAt: time.Unix(1, 0), Conflict: "02:00:00:00:00:99"}},
		},
	}
	k := announcer.NewSet(in, announcer.Plan{Disputed: []announcer.VIP{{Addr: vip, Links: []string{"eth0"}}}}, nil)
	for _, mac := range []string{"02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"} {
		if !announcer.Ours(in)[mac] {
			t.Errorf("%s is not taken for ours", mac)
		}
	}
	if want := (announcer.Record{UID: "u", Probed: true, Conflict: "02:00:00:00:00:99"}); k.Records[vip] != want {
		t.Errorf("the record is %+v, want %+v", k.Records[vip], want)
	}
	if len(k.Disputed) != 1 || k.Disputed[0] != (announcer.Claim{Addr: vip, Link: "eth0"}) {
		t.Errorf("disputed is %v", k.Disputed)
	}
}
