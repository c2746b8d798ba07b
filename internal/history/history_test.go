package history

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

var (
	noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	vip  = netip.MustParseAddr("192.0.2.1")
)

// cluster has nodes a, b and c, in order, which announce nothing.
func cluster(change ...func(*snapshot.Snapshot)) *snapshot.Snapshot {
	s := &snapshot.Snapshot{Addresses: []*snapshot.Address{{Addr: vip, Holders: []snapshot.Holder{{Ref: snapshot.Ref{Namespace: "shop", Name: "web"}}}}}}
	for _, n := range []string{"a", "b", "c"} {
		s.Nodes = append(s.Nodes, &snapshot.Node{Name: n})
		s.NodeStates = append(s.NodeStates, &snapshot.NodeState{Electable: snapshot.Electable{Node: n, InSync: true}})
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func by(node string, since time.Time) func(*snapshot.Snapshot) {
	return func(s *snapshot.Snapshot) {
		st := s.NodeState(node)
		st.Announces = append(st.Announces, snapshot.Announced{Addr: vip, Link: "eth0", Since: since})
	}
}

func measured(node string, gap time.Duration) func(*snapshot.Snapshot) {
	return func(s *snapshot.Snapshot) { s.NodeState(node).Announces[0].Gap = gap }
}

func leaving(node string) func(*snapshot.Snapshot) {
	return func(s *snapshot.Snapshot) { s.NodeState(node).Announces[0].Leaving = true }
}

func draining(node string) func(*snapshot.Snapshot) {
	return func(s *snapshot.Snapshot) { s.NodeState(node).Draining = true }
}

func gone(node string) func(*snapshot.Snapshot) {
	return func(s *snapshot.Snapshot) {
		for _, st := range s.NodeStates {
			if st.Node != node {
				st.Silent = []snapshot.Silent{{Node: node, Verdict: "node-gone"}}
			}
		}
	}
}

func foreign(mac string) func(*snapshot.Snapshot) {
	return func(s *snapshot.Snapshot) { s.Addresses[0].Conflict = mac }
}

func unsynced(node string) func(*snapshot.Snapshot) {
	return func(s *snapshot.Snapshot) { s.NodeState(node).InSync = false }
}

// What is seen, a second after the other, and what is written down.
func TestFollow(t *testing.T) {
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	for name, c := range map[string]struct {
		seen []*snapshot.Snapshot
		want string
	}{
		"what is there at first is not news": {[]*snapshot.Snapshot{cluster(by("a", at(-60)))}, ""},
		"the first announcement":             {[]*snapshot.Snapshot{cluster(), cluster(by("a", at(1)))}, "a announces 192.0.2.1"},
		"a handover": {[]*snapshot.Snapshot{cluster(by("a", at(0))), cluster(by("a", at(0)), leaving("a"), draining("a"), by("b", at(1))), cluster(draining("a"), by("b", at(1)))},
			"192.0.2.1 moved from a to b: a is draining, no gap"},
		"a node that dies": {[]*snapshot.Snapshot{cluster(by("a", at(0))), cluster(by("a", at(0)), by("b", at(1)), gone("a"))},
			"the other agents do not hear a: node-gone | 192.0.2.1 moved from a to b: a is not heard (node-gone)"},
		"a node that dies, and its heir measured": {[]*snapshot.Snapshot{cluster(by("a", at(0))), cluster(by("a", at(0)), by("b", at(1)), measured("b", 143*time.Millisecond), gone("a"))},
			"the other agents do not hear a: node-gone | 192.0.2.1 moved from a to b: a is not heard (node-gone), gap of at most 143ms"},
		"a gap of an earlier move": {[]*snapshot.Snapshot{cluster(by("b", at(-9)), measured("b", time.Second)), cluster(by("b", at(-9)), measured("b", time.Second), by("c", at(1))), cluster(by("b", at(-9)), measured("b", time.Second), by("c", at(1)), gone("c"))},
			"192.0.2.1 moved from b to c: another node is preferred | the other agents do not hear c: node-gone | 192.0.2.1 moved from c to b: c is not heard (node-gone)"},
		"a withdrawal, and another node two seconds later": {[]*snapshot.Snapshot{cluster(by("a", at(0))), cluster(unsynced("a")), cluster(unsynced("a")), cluster(by("b", at(3)))},
			"the engine of a is not in sync | nobody announces 192.0.2.1; a did: the engine of a is not in sync | the engine of a is in sync again | 192.0.2.1 moved from a to b: another node is preferred, gap of at least 2s"},
		"the same node again": {[]*snapshot.Snapshot{cluster(by("a", at(0))), cluster(), cluster(by("a", at(2)))},
			"nobody announces 192.0.2.1; a did: another node is preferred | a announces 192.0.2.1, gap of at least 1s"},
		"a foreign host": {[]*snapshot.Snapshot{cluster(), cluster(foreign("02:00:00:00:00:01")), cluster()},
			"a foreign host answers for 192.0.2.1: its MAC address is 02:00:00:00:00:01 | no foreign host answers for 192.0.2.1 any longer"},
		"one of two witnesses is not believed": {[]*snapshot.Snapshot{cluster(), cluster(func(s *snapshot.Snapshot) { s.NodeState("b").Silent = []snapshot.Silent{{Node: "a"}} })}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Record{}
			for i, s := range c.seen {
				if text, err := r.Write(); err != nil { // each time by another controller
					t.Fatal(err)
				} else if i > 0 {
					r = Read(text)
				}
				r.Follow(s, at(i))
			}
			if got := told(r); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if r.Follow(c.seen[len(c.seen)-1], at(100)) {
				t.Errorf("the same cluster again is news: %s", told(r))
			}
		})
	}
}

func told(r *Record) string {
	var out []string
	for _, e := range r.Entries {
		text := e.String()
		if m := e.Measured(); m != "" {
			text += ", " + m
		}
		out = append(out, text)
	}
	return strings.Join(out, " | ")
}

// The record is bounded in entries and in bytes, and in order.
func TestBounded(t *testing.T) {
	r := &Record{}
	r.Follow(cluster(), noon)
	for i := range 2 * Most {
		r.Follow(cluster(by([]string{"a", "b"}[i%2], noon.Add(time.Duration(i)*time.Second))), noon)
	}
	if len(r.Entries) != Most || !slices.IsSortedFunc(r.Entries, func(a, b Entry) int { return a.At.Compare(b.At) }) {
		t.Errorf("%d entries", len(r.Entries))
	}
	for i := range 20_000 {
		r.Seen[fmt.Sprintf("192.0.2.%d", i)] = Seen{Node: "a node with a name of some length"}
	}
	text, err := r.Write()
	if err != nil || len(text) > mostBytes {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if again := Read(text); len(again.Entries) != Most || again.Seen != nil {
		t.Error("entries are lost")
	}
	if got := Read("{"); got == nil || len(got.Entries) != 0 {
		t.Error("a broken record is not an empty one")
	}
}
