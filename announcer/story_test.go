package announcer_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

var head = regexp.MustCompile(`^# (spec [0-9, ]+|beyond): \S`)

// TestStories tells every file in testdata to Decide on each of its nodes. A
// "cluster" or "then" section changes the cluster; "want" is who announces
// what, and why nobody does.
func TestStories(t *testing.T) {
	storytest.Each(t, func(t *testing.T, s *storytest.Story) {
		if !head.MatchString(s.Comment) {
			t.Fatal("a story begins with `# spec N, M: what it shows` or `# beyond: what it shows`")
		}
		tell(t, s)
	})
}

func tell(t *testing.T, s *storytest.Story) {
	world := storytest.NewWorld()
	for _, sec := range s.Sections {
		switch sec.Name {
		case "cluster", "then":
			if err := world.Do(sec.Text); err != nil {
				t.Fatal(err)
			}
		case "want":
			sec.Want(t, decisions(t, world))
		default:
			t.Fatalf("no section %q", sec.Name)
		}
	}
}

// decisions asks every node that has an agent, and checks that all come to the
// same owner for every address.
func decisions(t *testing.T, w *storytest.World) string {
	t.Helper()
	var lines []string
	owners := map[netip.Addr]string{}
	for _, st := range snapshotOf(t, w).NodeStates {
		p := decide(t, w, st.Node)
		for _, v := range p.Announce {
			line := fmt.Sprintf("%s by %s on %s for %v", v.Addr, st.Node, strings.Join(v.Links, ","), v.Services)
			if v.Refresh > 0 {
				line += " every " + v.Refresh.String()
			}
			lines = append(lines, line)
			agree(t, owners, v.Addr, st.Node)
		}
		for _, v := range p.Disputed {
			lines = append(lines, fmt.Sprintf("%s asked about by %s on %s", v.Addr, st.Node, strings.Join(v.Links, ",")))
		}
		for _, r := range p.Refused {
			agree(t, owners, r.Addr, r.Owner)
			if r.Reason != announcer.NotOwner {
				lines = append(lines, fmt.Sprintf("%s silent: %s", r.Addr, r.Refusal))
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n") + "\n"
}

func agree(t *testing.T, owners map[netip.Addr]string, addr netip.Addr, owner string) {
	t.Helper()
	if other, known := owners[addr]; known && other != owner {
		t.Errorf("%s: the nodes do not agree: %q or %q", addr, owner, other)
	}
	owners[addr] = owner
}

// decide decides twice, the second time from an input in another order.
func decide(t *testing.T, w *storytest.World, node string) announcer.Plan {
	t.Helper()
	s := snapshotOf(t, w)
	in := announcer.Input{Snapshot: s, Node: node, Self: s.NodeState(node).Electable, Alive: w.Alive(), Ready: map[netip.Addr]bool{}}
	for _, a := range s.Addresses {
		in.Ready[a.Addr] = !slices.Contains(w.Lacks(node), a.Addr)
	}
	plan := announcer.Decide(in)
	in.Snapshot = shuffled(s)
	if other := announcer.Decide(in); other.String() != plan.String() {
		t.Errorf("the order of the input matters:\n%s-- shuffled --\n%s", plan, other)
	}
	return plan
}

func snapshotOf(t *testing.T, w *storytest.World) *snapshot.Snapshot {
	t.Helper()
	s, err := w.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// shuffled is the same cluster with everything out of order on which no
// decision may depend.
func shuffled(s *snapshot.Snapshot) *snapshot.Snapshot {
	r := rand.New(rand.NewPCG(3, 4))
	out := *s
	out.NodeStates = nil
	for _, st := range s.NodeStates {
		c := *st
		c.Links = mixed(r, st.Links)
		out.NodeStates = append(out.NodeStates, &c)
	}
	out.Announcements = mixed(r, s.Announcements)
	return &out
}

func mixed[T any](r *rand.Rand, in []T) []T {
	out := slices.Clone(in)
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}
