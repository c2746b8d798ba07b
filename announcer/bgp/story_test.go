package bgp_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// passwords is what every story's Secrets hold.
var passwords = map[snapshot.SecretKey]string{{Name: "good", Key: "password"}: "secret"}

// TestStories tells every file in testdata to Decide on each node with an agent.
// A "cluster" or "then" section changes the cluster; "want" is the plans.
func TestStories(t *testing.T) {
	storytest.Each(t, func(t *testing.T, s *storytest.Story) {
		world := storytest.NewWorld()
		for _, sec := range s.Sections {
			switch sec.Name {
			case "cluster", "then":
				if err := world.Do(sec.Text); err != nil {
					t.Fatal(err)
				}
			case "want":
				sec.Want(t, plans(t, world))
			default:
				t.Fatalf("no section %q", sec.Name)
			}
		}
	})
}

func plans(t *testing.T, w *storytest.World) string {
	t.Helper()
	s, err := w.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, st := range s.NodeStates {
		in := bgp.Input{Snapshot: s, Node: st.Node, Self: st.Electable, Ready: map[netip.Addr]bool{}, Passwords: passwords}
		for _, a := range s.Addresses {
			in.Ready[a.Addr] = !slices.Contains(w.Lacks(st.Node), a.Addr)
		}
		plan := bgp.Decide(in)
		if next := plan.Keep(plan); next.String() != plan.String() {
			t.Errorf("%s: keeps something else than it has:\n%s", st.Node, next)
		}
		fmt.Fprintf(&b, "%s\n", strings.TrimRight("node "+st.Node+"\n"+plan.String(), "\n"))
	}
	return b.String()
}
