package allocator

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// TestLeasesEnd: a Service keeps a leased address until the lease has ended, and loses it
// then, whether a node said so or not. When to look again is known.
func TestLeasesEnd(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	addr := netip.MustParseAddr("192.0.2.50")
	ref := snapshot.Ref{Namespace: "z", Name: "a"}
	pool := &snapshot.Pool{Name: "lan", AutoAssign: true, Priority: snapshot.NoPriority, FromDHCP: &snapshot.FromDHCP{Interface: "eth0", Families: []snapshot.Family{snapshot.IPv4}}}
	s := &snapshot.Snapshot{
		Nodes: []*snapshot.Node{{Name: "n1", Ready: true}, {Name: "n2", Ready: true}},
		Pools: []*snapshot.Pool{pool.WithLeases([]snapshot.PoolLease{{Ref: ref, Family: snapshot.IPv4, ID: "u", Addr: addr, Until: now.Add(time.Minute)}})},
		Services: []*snapshot.Service{{
			Ref: ref, UID: "u", Type: snapshot.LoadBalancer, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.7")}, Families: []snapshot.Family{snapshot.IPv4},
			Ports: []snapshot.Port{{Protocol: snapshot.TCP, Port: 80}},
		}},
		Addresses: []*snapshot.Address{{Addr: addr, Pool: "lan", Lease: "u", Holders: []snapshot.Holder{{Ref: ref, UID: "u", Ports: []snapshot.HeldPort{{Protocol: snapshot.TCP, Port: 80}}}}}},
	}
	says := func(node string, at time.Duration, addr netip.Addr, until time.Duration, why string) *snapshot.NodeState {
		return &snapshot.NodeState{Electable: snapshot.Electable{Node: node}, Leases: []snapshot.NodeLease{{
			Pool: "lan", ID: "u", Family: snapshot.IPv4, Addr: addr, Until: now.Add(until), At: now.Add(at), Message: why,
		}}}
	}
	other := netip.MustParseAddr("192.0.2.51")
	for _, c := range []struct {
		name   string
		states []*snapshot.NodeState
		after  time.Duration
		want   string
	}{
		{"nothing is said", nil, 59 * time.Second, "192.0.2.50 LeasesHeld 1m0s"},
		{"it has ended", nil, time.Minute, "NoLease LeasesMissing: the lease of 192.0.2.50 ended, and no node says that it was renewed"},
		{"it was renewed", []*snapshot.NodeState{says("n1", 0, addr, time.Hour, "")}, time.Minute, "192.0.2.50 LeasesHeld 1h0m0s"},
		{"it was not", []*snapshot.NodeState{says("n1", 0, addr, time.Hour, "no answer")}, time.Minute, "192.0.2.50 warning LeasesMissing 1h0m0s: no answer"},
		{"it was taken back", []*snapshot.NodeState{says("n1", 0, netip.Addr{}, 0, "taken back")}, 0, "NoLease LeasesMissing: taken back"},
		{"another one was leased", []*snapshot.NodeState{says("n1", 0, other, time.Hour, "")}, 0, "192.0.2.51 LeasesHeld 1h0m0s"},
		{"the last word counts", []*snapshot.NodeState{says("n1", time.Second, other, time.Hour, ""), says("n2", 0, addr, time.Hour, "")}, 0, "192.0.2.51 LeasesHeld 1h0m0s"},
		{"a node that is gone says nothing", []*snapshot.NodeState{says("n1", 0, other, time.Hour, ""), says("n3", time.Second, addr, time.Hour, "")}, 0, "192.0.2.51 LeasesHeld 1h0m0s"},
	} {
		s.NodeStates = c.states
		plan := Decide(s, Options{DefaultClass: true, Now: now.Add(c.after)})
		o, p := plan.Services[0], plan.Pools[0]
		got := ""
		if len(o.Addrs) > 0 {
			got = join(o.Addrs)
		} else {
			got = string(o.Refusal.Reason)
		}
		if len(o.Warnings) > 0 && o.Warnings[0].Reason == LeaseLapsing {
			got += " warning"
		}
		got += " " + p.Leasing.Reason
		if !plan.Again.IsZero() {
			got += " " + plan.Again.Sub(now).String()
		}
		if p.Leases[0].Message != "" {
			got += ": " + p.Leases[0].Message
		}
		if got != c.want {
			t.Errorf("%s: %s, wanted %s", c.name, got, c.want)
		}
	}
}

// TestMostLeases: a pool leases a bounded number of addresses. Who comes later is told.
func TestMostLeases(t *testing.T) {
	pool := &snapshot.Pool{Name: "lan", AutoAssign: true, Priority: snapshot.NoPriority, FromDHCP: &snapshot.FromDHCP{Interface: "eth0", Families: []snapshot.Family{snapshot.IPv4}}}
	s := &snapshot.Snapshot{Pools: []*snapshot.Pool{pool}}
	for i := range snapshot.MostLeases + 1 {
		s.Services = append(s.Services, &snapshot.Service{
			Ref: snapshot.Ref{Namespace: "z", Name: fmt.Sprintf("%03d", i)}, UID: fmt.Sprint(i), Type: snapshot.LoadBalancer, Created: time.Unix(int64(i), 0),
			ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.7")}, Families: []snapshot.Family{snapshot.IPv4}, Ports: []snapshot.Port{{Protocol: snapshot.TCP, Port: 80}},
		})
	}
	for range 2 {
		plan := Decide(s, Options{DefaultClass: true})
		p := plan.Pools[0]
		if len(p.Leases) != snapshot.MostLeases {
			t.Fatalf("%d leases, wanted %d", len(p.Leases), snapshot.MostLeases)
		}
		s.Pools = []*snapshot.Pool{pool.WithLeases(p.Leases)}
	}
	last := Decide(s, Options{DefaultClass: true}).Services[snapshot.MostLeases]
	if last.Refusal == nil || last.Refusal.Reason != PoolExhausted || !strings.Contains(last.Refusal.Message, "lan") {
		t.Errorf("the last Service is told %v", last.Refusal)
	}
}
