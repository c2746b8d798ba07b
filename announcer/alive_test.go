package announcer

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestLiveness replays who renews when, as seen on node "me", in seconds. Nodes
// renew every 10 s. At some seconds it asks who is alive.
func TestLiveness(t *testing.T) {
	always := span{0, 1000}
	tests := []struct {
		name    string
		renewed map[string][]span
		alive   map[int]string // at second: the nodes that are alive
	}{
		{
			name:    "all renew",
			renewed: map[string][]span{"me": {always}, "a": {always}, "b": {always}},
			alive:   map[int]string{0: "a b me", 5: "a b me", 200: "a b me"},
		}, {
			name:    "an agent that falls silent is dead after 40 s, and alive as soon as it speaks",
			renewed: map[string][]span{"me": {always}, "a": {{0, 100}, {200, 1000}}, "b": {always}},
			alive:   map[int]string{100: "a b me", 139: "a b me", 140: "a b me", 141: "b me", 199: "b me", 200: "a b me"},
		}, {
			name:    "an outage of the API server changes no verdict, however long",
			renewed: map[string][]span{"me": {{0, 100}}, "a": {{0, 100}}, "b": {{0, 40}}},
			alive:   map[int]string{100: "a me", 120: "a me", 141: "a me", 900: "a me"},
		}, {
			name:    "after an outage everybody has 40 s to show himself; who does not is dead",
			renewed: map[string][]span{"me": {{0, 100}, {500, 1000}}, "a": {{0, 100}, {530, 1000}}, "b": {{0, 100}}},
			alive:   map[int]string{499: "a b me", 500: "a b me", 520: "a b me", 540: "a b me", 541: "a me", 600: "a me"},
		}, {
			name:    "who was dead before an outage stays dead after it, until he speaks",
			renewed: map[string][]span{"me": {{0, 100}, {500, 1000}}, "a": {{0, 100}, {500, 1000}}, "b": {{0, 30}, {560, 1000}}},
			alive:   map[int]string{90: "a me", 300: "a me", 500: "a me", 520: "a me", 559: "a me", 560: "a b me"},
		}, {
			name:    "a second outage within the grace of the first",
			renewed: map[string][]span{"me": {{0, 100}, {500, 510}, {800, 1000}}, "a": {{0, 100}, {800, 1000}}, "b": {{0, 100}}},
			alive:   map[int]string{505: "a b me", 700: "a b me", 800: "a b me", 840: "a b me", 841: "a me"},
		}, {
			name:    "renewals that come late are no outage",
			renewed: map[string][]span{"me": {{0, 100}, {118, 1000}}, "a": {{0, 80}}},
			alive:   map[int]string{117: "a me", 118: "a me", 121: "me", 160: "me"},
		}, {
			name:    "a node that joins",
			renewed: map[string][]span{"me": {always}, "a": {{300, 1000}}},
			alive:   map[int]string{299: "me", 300: "a me", 310: "a me"},
		}, {
			name:    "this node is alive before its own renewal is seen",
			renewed: map[string][]span{"a": {{0, 20}}},
			alive:   map[int]string{0: "a me", 30: "a me"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := &Liveness{}
			start := time.Unix(1_000_000, 0)
			for second := range 1000 {
				seen := map[string]time.Time{}
				for node, spans := range tt.renewed {
					if at := last(spans, second); at >= 0 {
						seen[node] = start.Add(time.Duration(at) * time.Second)
					}
				}
				got := l.Judge("me", seen, start.Add(time.Duration(second)*time.Second))
				if want, asked := tt.alive[second]; asked && names(got) != want {
					t.Errorf("at %d s %q are alive, want %q", second, names(got), want)
				}
			}
		})
	}
}

// span is a time in which a node renews every 10 s: from, to (inclusive).
type span struct{ from, to int }

// last is the last renewal at or before second; -1 if none.
func last(spans []span, second int) int {
	out := -1
	for _, s := range spans {
		if second >= s.from {
			out = s.from + (min(second, s.to)-s.from)/10*10
		}
	}
	return out
}

func names(alive map[string]bool) string {
	var out []string
	for n, ok := range alive {
		if ok {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// TestJudgeReturnsACopy: a caller may not change the verdicts that are remembered.
func TestJudgeReturnsACopy(t *testing.T) {
	l, now := &Liveness{}, time.Unix(1_000_000, 0)
	seen := map[string]time.Time{"me": now, "a": now}
	l.Judge("me", seen, now)["a"] = false
	if later := now.Add(time.Minute); !l.Judge("me", seen, later)["a"] { // an outage: the verdict stays
		t.Error("the caller's change of its copy was remembered")
	}
}

// TestResume: a process that starts anew lists every NodeState at once, also
// those of the dead. Who was dead stays so until he renews; the others have the
// time to.
func TestResume(t *testing.T) {
	l, start := &Liveness{}, time.Unix(1_000_000, 0)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	l.Resume(map[string]bool{"a": true, "b": false, "c": true})
	seen := map[string]time.Time{"me": at(0), "a": at(0), "b": at(0), "c": at(0), "new": at(0)}
	for _, step := range []struct {
		second int
		renew  string
		want   string
	}{{0, "", "a c me new"}, {5, "", "a c me new"}, {10, "a", "a c me new"}, {30, "a", "a c me new"}, {41, "a", "a me"}, {45, "b", "a b me"}, {50, "", "a b me"}} {
		for n := range strings.FieldsSeq("me " + step.renew) {
			seen[n] = at(step.second)
		}
		if got := names(l.Judge("me", seen, at(step.second))); got != step.want {
			t.Errorf("at %d s %q are alive, want %q", step.second, got, step.want)
		}
	}
}

// TestResumeWithoutServer: the verdicts of the earlier process stay as long as
// the API server is away.
func TestResumeWithoutServer(t *testing.T) {
	l, start := &Liveness{}, time.Unix(1_000_000, 0)
	l.Resume(map[string]bool{"a": true, "b": false})
	for _, d := range []time.Duration{0, time.Minute, time.Hour} {
		if got := names(l.Judge("me", nil, start.Add(d))); got != "a me" {
			t.Errorf("after %s %q are alive", d, got)
		}
	}
}
