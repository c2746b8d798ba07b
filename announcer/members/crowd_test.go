package members

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// reports returns what an agent remembers of so many nodes, each with one link.
func reports(nodes int) (out []announcer.Remembered) {
	for i := range nodes {
		at := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		link := snapshot.Link{Name: "eth0", MAC: fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255), Prefixes: []netip.Prefix{netip.PrefixFrom(at, 16)}}
		out = append(out, announcer.Remembered{Addr: netip.AddrPortFrom(at, Port), Report: announcer.Report{
			Electable: snapshot.Electable{Node: fmt.Sprintf("worker-%04d.example.org", i), InSync: true, Protocol: announcer.Protocol, Links: []snapshot.Link{link}},
			Boot:      "5a3c4f0e-7f1c-4f0e-9c5d-0123456789ab", Version: 7, Settled: true, LongSettled: true,
		}})
	}
	return out
}

// know makes a Roster that has heard all of these nodes.
func know(all []announcer.Remembered, at time.Time) *announcer.Roster {
	r := &announcer.Roster{}
	for _, m := range all {
		r.Spoke(m.Report.Node, m.Addr, at)
		r.Recall(m, at)
	}
	return r
}

// TestEveryNodeIsKnown: an exchange and a Roster have room for 5,000 nodes. A bound that some
// of them do not pass makes each node know others, and elections differ.
func TestEveryNodeIsKnown(t *testing.T) {
	const nodes = 5000
	text := encodeAll(reports(nodes))
	t.Logf("%d reports have %d bytes", nodes, len(text))
	got, err := decodeAll(text)
	if err != nil || len(got) != nodes {
		t.Fatalf("an exchange has %d nodes, want %d: %v", len(got), nodes, err)
	}
	if v := know(got, time.Now()).View(announcer.Report{}, netip.AddrPort{}, time.Now()); len(v.Members) != nodes+1 {
		t.Errorf("%d members, want %d and this node", len(v.Members), nodes)
	}
}

// BenchmarkCrowd is what 5,000 nodes cost one agent: to read one exchange, to look at all of
// them as it does twice a second, and to elect the owners of 1,000 addresses, at first and
// after 2 % of the nodes were lost.
func BenchmarkCrowd(b *testing.B) {
	const nodes, addresses = 5000, 1000
	// each reports the CPU time of do, which does not depend on what else the machine does.
	each := func(name string, before, do func()) {
		b.Run(name, func(b *testing.B) {
			var took time.Duration
			for b.Loop() {
				before()
				began := spent(b)
				do()
				took += spent(b) - began
			}
			b.ReportMetric(took.Seconds()*1000/float64(b.N), "cpu-ms/op")
		})
	}
	nothing := func() {}
	all, now := reports(nodes), time.Now()
	text := encodeAll(all)
	each("exchange", nothing, func() {
		if _, err := decodeAll(text); err != nil {
			b.Fatal(err)
		}
	})
	r := know(all, now)
	v := r.View(announcer.Report{}, netip.AddrPort{}, now)
	each("look", nothing, func() { _ = r.View(announcer.Report{}, netip.AddrPort{}, now).String() })
	s := &snapshot.Snapshot{Services: []*snapshot.Service{{
		Ref: snapshot.Ref{Namespace: "default", Name: "web"}, UID: "u", Type: snapshot.LoadBalancer,
		Endpoints: []snapshot.Endpoint{{Addr: netip.MustParseAddrPort("10.9.0.1:80"), Ready: true}},
	}}}
	for _, m := range all {
		s.Nodes = append(s.Nodes, &snapshot.Node{Name: m.Report.Node, Ready: true})
	}
	for i := range addresses {
		s.Addresses = append(s.Addresses, &snapshot.Address{Addr: netip.AddrFrom4([4]byte{10, 0, 200 + byte(i>>8), byte(i)}), Holders: []snapshot.Holder{{Ref: s.Services[0].Ref, UID: "u"}}})
	}
	in := announcer.Input{Snapshot: s, Node: all[0].Report.Node, Self: all[0].Report.Electable, Alive: v.Candidates(), Others: v.NodeStates()}
	each("elect", nothing, func() { announcer.Decide(in) })
	fewer := in
	fewer.Alive = v.Candidates()
	for i := range nodes / 50 {
		fewer.Alive[all[50*i+1].Report.Node] = false
	}
	var d announcer.Decider
	each("elect-again", func() { d.Decide(in) }, func() { d.Decide(fewer) })
}
