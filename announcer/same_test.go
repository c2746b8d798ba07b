package announcer

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// TestSameView changes one thing of a view at a time: views that print differently are not
// the same, and what no decision reads makes no difference.
func TestSameView(t *testing.T) {
	at := netip.MustParseAddrPort("192.0.2.1:7946")
	build := func(change func(*View)) View {
		v := View{Node: "a", Members: []Member{
			{Node: "a", Addr: at, Candidate: true, Report: &Report{Settled: true, Version: 3}},
			{Node: "b", Addr: at, Report: &Report{Boot: "x", Electable: snapshot.Electable{Node: "b", Links: []snapshot.Link{{Name: "eth0", MAC: "02:00:00:00:00:01"}}}}},
			{Node: "c"},
		}}
		change(&v)
		return v
	}
	was := build(func(*View) {})
	for _, tc := range []struct {
		name   string
		same   bool
		change func(*View)
	}{
		{"nothing", true, func(*View) {}},
		{"when one was heard", true, func(v *View) { v.Members[1].Since = time.Now() }},
		{"a report's version", true, func(v *View) { v.Members[0].Report.Version = 4 }},
		{"a boot", true, func(v *View) { v.Members[1].Report.Boot = "y" }},
		{"another node", false, func(v *View) { v.Members[2].Node = "d" }},
		{"one less", false, func(v *View) { v.Members = v.Members[:2] }},
		{"an address", false, func(v *View) { v.Members[2].Addr = at }},
		{"a verdict", false, func(v *View) { v.Members[2].Verdict = NodeGone }},
		{"a candidate", false, func(v *View) { v.Members[0].Candidate = false }},
		{"quarantine", false, func(v *View) { v.Members[1].Quarantine = true }},
		{"a first report", false, func(v *View) { v.Members[2].Report = &Report{} }},
		{"what a report says", false, func(v *View) { v.Members[0].Report.Settled = false }},
		{"a link", false, func(v *View) { v.Members[1].Report.Links[0].MAC = "02:00:00:00:00:02" }},
		{"what stays", false, func(v *View) { v.Members[1].Report.Stays = []netip.Addr{at.Addr()} }},
		{"the director", false, func(v *View) { v.Members[1].Report.Director = &snapshot.DirectorState{Able: true} }},
		{"how far one follows", false, func(v *View) { v.Members[1].Report.Knows.Count = 1 }},
		{"guarded", false, func(v *View) { v.Guarded = true }},
		{"returns", false, func(v *View) { v.Returns = 1 }},
		{"a clash", false, func(v *View) { v.Clashes = []string{"b"} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			now := build(tc.change)
			if got := now.Same(was); got != tc.same {
				t.Errorf("the same: %t", got)
			}
			if tc.same && now.String() != was.String() {
				t.Errorf("the same, and prints %q, not %q", now, was)
			}
		})
	}
}
