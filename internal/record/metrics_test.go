package record

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/announcer/observe"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Objects without effect are counted by reason, a pool that is disabled on purpose is
// not. A replica that stops leading does not report its last decision.
func TestRefusedObjects(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := NewMetrics(reg)
	m.Lead(true)
	pool := func(name string, hour int) *snapshot.Pool {
		return &snapshot.Pool{Name: name, Created: time.Unix(int64(hour)*3600, 0), AutoAssign: true, Priority: snapshot.NoPriority}
	}
	bad, disabled := pool("bad", 1), pool("disabled", 2)
	bad.Bad, disabled.Disabled = []string{`"192.0.2.0/33": no CIDR`}, true
	refused := snapshot.PeerState{Name: "tor", State: snapshot.PeerRefused, LastError: "no AS number"}
	down := snapshot.PeerState{Name: "tor-2", State: "Active"}
	s := &snapshot.Snapshot{
		Pools: []*snapshot.Pool{bad, disabled}, BGPPeers: []*snapshot.BGPPeer{{Name: "tor"}, {Name: "tor-2"}},
		NodeStates: []*snapshot.NodeState{{Electable: snapshot.Electable{Node: "a"}, Peers: []snapshot.PeerState{refused, down}}},
	}
	m.Decided(allocator.Decide(s, allocator.Options{}), observe.Observe(s, time.Now()), time.Second)
	const name = "fairlead_controller_refused_objects"
	const want = `
# HELP fairlead_controller_refused_objects Objects that have no effect because their spec cannot be carried out, by kind (AddressPool, BGPPeer) and the reason of their condition.
# TYPE fairlead_controller_refused_objects gauge
fairlead_controller_refused_objects{kind="AddressPool",reason="PoolInvalid"} 1
fairlead_controller_refused_objects{kind="BGPPeer",reason="Refused"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), name); err != nil {
		t.Error(err)
	}
	m.Lead(false)
	for _, of := range []string{name, "fairlead_controller_addresses", "fairlead_pool_addresses"} {
		if n, err := testutil.GatherAndCount(reg, of); err != nil || n != 0 {
			t.Errorf("%d of %s are left after the Lease: %v", n, of, err)
		}
	}
	if n := testutil.ToFloat64(m.leading); n != 0 {
		t.Errorf("it leads: %v", n)
	}
}
