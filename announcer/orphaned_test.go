package announcer_test

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// TestOrphaned: the next owner waits for what an agent that is gone could still hold, and
// for nothing else.
func TestOrphaned(t *testing.T) {
	w := spreadWorld(t, netip.MustParsePrefix("192.0.2.0/22"))
	before := owners(t, w)
	do(t, w, "agent worker-2 dead")
	in := announcer.Input{Snapshot: snapshotOf(t, w), Node: "worker-1", Alive: w.Alive(), Ready: map[netip.Addr]bool{}}
	for addr := range before {
		in.Ready[addr] = true
	}
	in.Self = in.Snapshot.NodeState("worker-1").Electable
	next := announcer.Decide(in).Announce
	settled, nothing := &announcer.Report{Settled: true}, announcer.Reach{}
	for _, tt := range []struct {
		name  string
		m     announcer.Member
		at    time.Duration
		reach announcer.Reach
		left  bool
	}{
		{"its agent is gone, its kernel answers", announcer.Member{Verdict: announcer.AgentGone, Report: settled}, 25 * time.Second, nothing, true},
		{"for longer than the lease: it may renew all the same", announcer.Member{Verdict: announcer.AgentGone, Report: settled}, time.Hour, nothing, true},
		{"its kernel is gone too, says gossip alone", announcer.Member{Verdict: announcer.NodeGone, Stale: true, Report: settled}, 25 * time.Second, nothing, true},
		{"two nodes miss it", announcer.Member{Verdict: announcer.NodeGone, Stale: true, Report: settled}, 25 * time.Second, announcer.Reach{Lost: map[string][]string{"worker-2": {"eth0"}}}, false},
		{"its agent speaks", announcer.Member{Verdict: announcer.Alive, Report: settled}, 25 * time.Second, nothing, false},
		{"its agent speaks again, but has not reported", announcer.Member{Verdict: announcer.Alive, Stale: true, Report: settled}, 25 * time.Second, nothing, true},
		{"and it was silent for longer than the lease", announcer.Member{Verdict: announcer.Alive, Stale: true, Report: settled}, time.Hour, nothing, true},
		{"it was never electable", announcer.Member{Verdict: announcer.AgentGone, Report: &announcer.Report{}}, 25 * time.Second, nothing, false},
		{"it never reported", announcer.Member{Verdict: announcer.AgentGone}, 25 * time.Second, nothing, false},
	} {
		tt.m.Node, tt.m.Since = "worker-2", time.Unix(1000, 0)
		view := announcer.View{Node: "worker-1", Members: []announcer.Member{tt.m}}
		var h announcer.Handover
		got := h.Orphaned(in, view, next, tt.reach, 30*time.Second, tt.m.Since.Add(tt.at))
		for _, vip := range next {
			_, left := got[vip.Addr]
			if want := tt.left && before[vip.Addr] == "worker-2"; left != want {
				t.Errorf("%s: %s, which was held by %s: left %v", tt.name, vip.Addr, before[vip.Addr], left)
			}
		}
	}
}

// TestOrphanedForABetterNode: a node that may be elected from now on waits too for what the
// owner until now holds, whose agent is just restarting.
func TestOrphanedForABetterNode(t *testing.T) {
	w := spreadWorld(t, netip.MustParsePrefix("192.0.2.0/22"))
	do(t, w, "agent worker-1 dead")
	was := decide(t, w, "worker-1")
	do(t, w, "agent worker-1 dead=false")
	in := announcer.Input{Snapshot: snapshotOf(t, w), Node: "worker-1", Alive: w.Alive(), Ready: map[netip.Addr]bool{}}
	in.Self = in.Snapshot.NodeState("worker-1").Electable
	nothing := func(netip.Addr) bool { return false }
	var h announcer.Handover
	h.Follow("worker-1", was, announcer.Decide(in), nothing) // its engine does not hold them yet
	for _, a := range in.Snapshot.Addresses {
		in.Ready[a.Addr] = true
	}
	ready := announcer.Decide(in)
	h.Follow("worker-1", announcer.Plan{}, ready, nothing)
	m := announcer.Member{Node: "worker-2", Verdict: announcer.AgentGone, Since: time.Unix(1000, 0), Report: &announcer.Report{Settled: true}}
	left := h.Orphaned(in, announcer.View{Members: []announcer.Member{m}}, ready.Announce, announcer.Reach{}, 30*time.Second, m.Since.Add(time.Second))
	owner := map[netip.Addr]string{}
	for _, r := range was.Refused {
		owner[r.Addr] = r.Owner
	}
	for _, vip := range ready.Announce {
		_, waits := left[vip.Addr]
		if want := owner[vip.Addr] == "worker-2"; waits != want {
			t.Errorf("%s, which %s had: left %v", vip.Addr, owner[vip.Addr], waits)
		}
	}
	if len(left) == 0 || len(left) == len(ready.Announce) {
		t.Errorf("%d of %d are left", len(left), len(ready.Announce))
	}
	again := announcer.Member{Node: "worker-2", Verdict: announcer.Alive, Since: m.Since, Report: &announcer.Report{}}
	view := announcer.View{Members: []announcer.Member{again}}
	if soon := h.Orphaned(in, view, ready.Announce, announcer.Reach{}, 30*time.Second, m.Since.Add(25*time.Second)); !maps.Equal(soon, left) {
		t.Errorf("the other agent speaks again, and may not have looked: %d are left, not %d", len(soon), len(left))
	}
	if late := h.Orphaned(in, view, ready.Announce, announcer.Reach{}, 30*time.Second, m.Since.Add(31*time.Second)); len(late) > 0 {
		t.Errorf("the other agent has spoken for longer than the lease: %d are left", len(late))
	}
	h.Follow("worker-1", ready, ready, func(netip.Addr) bool { return true })
	if left := h.Orphaned(in, announcer.View{Members: []announcer.Member{m}}, ready.Announce, announcer.Reach{}, 30*time.Second, m.Since.Add(time.Second)); len(left) > 0 {
		t.Errorf("it holds them, and waits for %d", len(left))
	}
}

// TestOrphanedOfTheUnheard: as long as some node was never heard of, an agent waits for what it
// is elected for and knows no owner of, as that node may answer for it. They take turns, because
// each of these nodes may be in the same state. So nothing is taken from a node whose agent is
// not heard, whether gossip is blocked, or comes back with one node after the other. A node that
// is not heard of for a lease after the first one has no agent, and nobody waits for it.
func TestOrphanedOfTheUnheard(t *testing.T) {
	w := spreadWorld(t, netip.MustParsePrefix("192.0.2.0/24"))
	s := snapshotOf(t, w)
	in := announcer.Input{Snapshot: s, Node: "worker-1", Alive: map[string]bool{"worker-1": true}, Ready: map[netip.Addr]bool{}, Self: s.NodeState("worker-1").Electable, Others: map[string]snapshot.Electable{}}
	for _, a := range s.Addresses {
		in.Ready[a.Addr] = true
	}
	known := map[string]snapshot.Electable{}
	for _, st := range s.NodeStates {
		known[st.Node] = st.Electable
	}
	all := slices.Sorted(maps.Keys(known))
	s.NodeStates = nil
	alone := announcer.Decide(in)
	// first is the Plan in which each address is the first's of worker-1 and others.
	first := func(others []string) announcer.Plan {
		among := in
		among.Others, among.Alive = map[string]snapshot.Electable{}, map[string]bool{"worker-1": true}
		for _, node := range others {
			among.Others[node], among.Alive[node] = known[node], true
		}
		return announcer.Decide(among)
	}
	everything := func(netip.Addr) bool { return true }
	nothing := func(netip.Addr) bool { return false }
	for _, tt := range []struct {
		name    string
		unheard []string
		before  func(h *announcer.Handover)
		waits   bool
	}{
		{"all are heard", nil, nil, false},
		{"one was never heard", []string{"worker-2"}, nil, true},
		{"one was never heard, and this node was not elected before", []string{"worker-2"}, func(h *announcer.Handover) { h.Follow("worker-1", announcer.Plan{}, announcer.Plan{}, nothing) }, true},
		// It took it in its turn, and another one whose turn was the same answered.
		{"one is heard, when this node had given back what it held", []string{"worker-2"}, func(h *announcer.Handover) {
			h.Follow("worker-1", announcer.Plan{}, alone, nothing)
			h.Follow("worker-1", alone, alone, everything)
			h.Follow("worker-1", alone, alone, nothing)
		}, true},
		{"nobody was ever heard", all, nil, true},
	} {
		in.Others = maps.Clone(known)
		for _, node := range tt.unheard {
			delete(in.Others, node)
		}
		next, among := announcer.Decide(in), first(tt.unheard)
		var h announcer.Handover
		was := announcer.Plan{}
		if tt.before != nil {
			tt.before(&h)
			was = alone
		}
		h.Follow("worker-1", was, next, nothing)
		at := time.Unix(1000, 0)
		waits := h.Orphaned(in, announcer.View{}, next.Announce, announcer.Reach{}, 30*time.Second, at)
		for _, vip := range next.Announce {
			turn, left := waits[vip.Addr]
			if left != tt.waits {
				t.Errorf("%s: %s waits: %v", tt.name, vip.Addr, left)
			}
			if owner := among.AnnouncedBy(vip.Addr, "worker-1"); left && (owner == "worker-1") != (turn == 0) {
				t.Errorf("%s: %s is taken in turn %d, and is first %s's", tt.name, vip.Addr, turn, owner)
			}
		}
		later := h.Orphaned(in, announcer.View{}, next.Announce, announcer.Reach{}, 30*time.Second, at.Add(31*time.Second))
		if alone := len(tt.unheard) == len(all); len(later) > 0 != alone {
			t.Errorf("%s: a lease later %d addresses wait", tt.name, len(later))
		}
	}
}
