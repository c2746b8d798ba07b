package record_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/internal/record"
	"github.com/fairlead/fairlead/internal/snapshot"
)

var claimedBy = snapshot.Ref{Namespace: "default", Name: "web"}

// nodes is a cluster in which each node has problems with one Service.
func nodes(problems ...[]string) *snapshot.Snapshot {
	s := &snapshot.Snapshot{}
	for i, texts := range problems {
		n := &snapshot.NodeState{Electable: snapshot.Electable{Node: fmt.Sprintf("n%d", i)}}
		for _, text := range texts {
			n.Problems = append(n.Problems, snapshot.Problem{Service: claimedBy, Reason: "NodePortClaimed", Message: text})
		}
		s.NodeStates = append(s.NodeStates, n)
	}
	return s
}

func TestProblems(t *testing.T) {
	tests := []struct {
		name string
		in   *snapshot.Snapshot
		want string
	}{
		{name: "none", in: nodes(nil, nil)},
		{name: "one", in: nodes(nil, []string{"x"}), want: "node n1: x"},
		{name: "two of a node", in: nodes([]string{"x", "y"}, []string{"z"}), want: "node n0: x; y; node n1: z"},
		{name: "more nodes than are named", in: nodes([]string{"a"}, []string{"b"}, []string{"c"}, []string{"d", "e"}, []string{"f", "g"}, []string{"h"}),
			want: "node n0: a; node n1: b; node n2: c; node n3: d; e; other nodes too"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, ok := record.Problems(tt.in)[claimedBy]
			if ok != (tt.want != "") || c.Message != tt.want {
				t.Errorf("got %q, want %q", c.Message, tt.want)
			}
			if ok && (c.Status != "False" || c.Reason != "NodePortClaimed") {
				t.Errorf("got %+v", c)
			}
		})
	}
}

// The condition is the memory: the same problem is news once.
func TestSetProblem(t *testing.T) {
	svc := &corev1.Service{}
	set := func(what string, c snapshot.Condition, problem, want bool) {
		t.Helper()
		if got := record.SetProblem(svc, c, problem); got != want {
			t.Errorf("%s: changed is %v", what, got)
		}
	}
	claimed := snapshot.Condition{Status: "False", Reason: "NodePortClaimed", Message: "node a: x"}
	set("nothing", snapshot.Condition{}, false, false)
	set("a problem", claimed, true, true)
	set("the same", claimed, true, false)
	claimed.Message = "node b: x"
	set("another node", claimed, true, true)
	set("solved", snapshot.Condition{}, false, true)
	if len(svc.Status.Conditions) != 0 {
		t.Errorf("left %+v", svc.Status.Conditions)
	}
}
