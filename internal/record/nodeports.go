package record

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// namedNodes is how many nodes a condition names: when a process comes up on
// every node of a large cluster, the Service is not written once for each.
const namedNodes = 4

// Problems returns the condition fairlead.io/NodePorts of every Service with
// which some node has a problem. The reason is that of the first node, by name.
func Problems(s *snapshot.Snapshot) map[snapshot.Ref]snapshot.Condition {
	type lines struct {
		reason snapshot.Reason
		nodes  int
		last   string // node
		text   strings.Builder
	}
	found := map[snapshot.Ref]*lines{}
	for _, n := range s.NodeStates {
		for _, p := range n.Problems {
			l := found[p.Service]
			if l == nil {
				l = &lines{reason: p.Reason}
				found[p.Service] = l
			}
			begins := l.last != n.Node
			if begins {
				l.last = n.Node
				l.nodes++
			}
			switch {
			case l.nodes <= namedNodes && begins && l.nodes == 1:
				l.text.WriteString("node " + n.Node + ": " + p.Message)
			case l.nodes <= namedNodes && begins:
				l.text.WriteString("; node " + n.Node + ": " + p.Message)
			case l.nodes <= namedNodes:
				l.text.WriteString("; " + p.Message)
			case l.nodes == namedNodes+1 && begins:
				l.text.WriteString("; other nodes too")
			}
		}
	}
	out := make(map[snapshot.Ref]snapshot.Condition, len(found))
	for ref, l := range found {
		text := l.text.String()
		out[ref] = snapshot.Condition{Status: "False", Reason: string(l.reason), Message: text[:min(len(text), conditionMessage)]}
	}
	return out
}

// conditionMessage is the most that a condition's message may hold.
const conditionMessage = 32768

// SetProblem makes svc's condition fairlead.io/NodePorts that of Problems, or
// takes it away if there is none, and tells whether it says something new.
func SetProblem(svc *corev1.Service, c snapshot.Condition, problem bool) (changed bool) {
	was := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionNodePorts)
	if !problem {
		return meta.RemoveStatusCondition(&svc.Status.Conditions, v1alpha1.ConditionNodePorts)
	}
	if was != nil && string(was.Status) == c.Status && was.Reason == c.Reason && was.Message == c.Message {
		return false
	}
	set(svc, v1alpha1.ConditionNodePorts, c)
	return true
}
