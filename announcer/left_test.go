package announcer_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
)

// TestLeft: the next owner waits for what an agent that is gone could still hold, and
// for nothing else.
func TestLeft(t *testing.T) {
	w := spreadWorld(t, netip.MustParsePrefix("192.0.2.0/22"))
	before := owners(t, w)
	do(t, w, "agent worker-2 dead")
	in := announcer.Input{Snapshot: snapshotOf(t, w), Node: "worker-1", Alive: w.Alive(), Ready: map[netip.Addr]bool{}}
	for addr := range before {
		in.Ready[addr] = true
	}
	in.Self = *in.Snapshot.NodeState("worker-1")
	next := announcer.Decide(in).Announce
	settled := &announcer.Report{Settled: true}
	for _, tt := range []struct {
		name string
		m    announcer.Member
		at   time.Duration
		left bool
	}{
		{"its agent is gone, its kernel answers", announcer.Member{Verdict: announcer.AgentGone, Report: settled}, 25 * time.Second, true},
		{"for longer than the lease", announcer.Member{Verdict: announcer.AgentGone, Report: settled}, 31 * time.Second, false},
		{"its kernel is gone too", announcer.Member{Verdict: announcer.NodeGone, Stale: true, Report: settled}, 25 * time.Second, false},
		{"its agent speaks", announcer.Member{Verdict: announcer.Alive, Report: settled}, 25 * time.Second, false},
		{"its agent speaks again, but has not reported", announcer.Member{Verdict: announcer.Alive, Stale: true, Report: settled}, 25 * time.Second, true},
		{"it was never electable", announcer.Member{Verdict: announcer.AgentGone, Report: &announcer.Report{}}, 25 * time.Second, false},
		{"it never reported", announcer.Member{Verdict: announcer.AgentGone}, 25 * time.Second, false},
	} {
		tt.m.Node, tt.m.Since = "worker-2", time.Unix(1000, 0)
		view := announcer.View{Node: "worker-1", Members: []announcer.Member{tt.m}}
		got := announcer.Left(in, view, next, 30*time.Second, tt.m.Since.Add(tt.at))
		for _, vip := range next {
			if want := tt.left && before[vip.Addr] == "worker-2"; got[vip.Addr] != want {
				t.Errorf("%s: %s, which was held by %s: left %v", tt.name, vip.Addr, before[vip.Addr], got[vip.Addr])
			}
		}
	}
}
