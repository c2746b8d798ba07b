package announcer_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/announcer"
)

// witnesses returns those of nodes that are witnesses of subject.
func witnesses(nodes []string, subject string) (out []string) {
	for _, n := range nodes {
		if announcer.Witness(n, nodes)(subject) {
			out = append(out, n)
		}
	}
	return out
}

// Every subject has the same number of witnesses in any cluster that is large enough,
// whichever nodes are alive, and a lost node is replaced by one other.
func TestWitness(t *testing.T) {
	var nodes []string
	for i := range 50 {
		nodes = append(nodes, fmt.Sprintf("node-%02d", i))
	}
	load := map[string]int{}
	for i := range 20 {
		subject := fmt.Sprintf("192.0.2.%d", i)
		all := witnesses(nodes, subject)
		if len(all) != announcer.Witnesses {
			t.Fatalf("%s has the witnesses %v", subject, all)
		}
		for _, w := range all {
			load[w]++
		}
		left := slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return n == all[2] })
		kept := 0
		for _, w := range witnesses(left, subject) {
			if slices.Contains(all, w) {
				kept++
			}
		}
		if kept != announcer.Witnesses-1 {
			t.Errorf("%s: without %s, %d of the witnesses stay", subject, all[2], kept)
		}
	}
	for node, n := range load {
		if n > 10 {
			t.Errorf("%s is a witness of %d subjects of 20, 2 on average", node, n)
		}
	}
}

// In a small cluster everybody is a witness, and so is a node that stands alone.
func TestWitnessOfFew(t *testing.T) {
	few := []string{"a", "b", "c", "d", "e"}
	if got := witnesses(few, "192.0.2.1"); !slices.Equal(got, few) {
		t.Errorf("of five: %v", got)
	}
	if !announcer.Witness("z", append(few, "f"))("192.0.2.1") {
		t.Error("a node that does not know itself says nothing")
	}
}

func TestBelieved(t *testing.T) {
	for _, tc := range []struct {
		say, others int
		want        bool
	}{
		{0, 0, false}, {0, 4, false}, {1, 1, true}, {1, 2, false}, {2, 2, true}, {2, 3, true}, {2, 4, false}, {3, 4, true},
		{2, 1000, false}, {3, 1000, true}, {999, 999, true},
	} {
		if got := announcer.Believed(tc.say, tc.others); got != tc.want {
			t.Errorf("%d of %d: %t", tc.say, tc.others, got)
		}
	}
}
