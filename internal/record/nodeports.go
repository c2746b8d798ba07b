package record

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolsrecord "k8s.io/client-go/tools/record"

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

// NodePorts tells Services, whoever gives them addresses, what nodes could not
// do for their node ports. The condition is the memory, so that no Event
// repeats when another replica leads.
func (r *Writer) NodePorts(ctx context.Context, s *snapshot.Snapshot, events toolsrecord.EventRecorder) (errs []error) {
	problems := Problems(s)
	for _, svc := range s.Services {
		problem, has := problems[svc.Ref]
		_, told := svc.Conditions[v1alpha1.ConditionNodePorts]
		if !has && !told {
			continue
		}
		if err := r.tellProblem(ctx, svc.Ref, problem, has, events); err != nil {
			errs = append(errs, fmt.Errorf("service %s: %w", svc.Ref, err))
		}
	}
	return errs
}

func (r *Writer) tellProblem(ctx context.Context, ref snapshot.Ref, problem snapshot.Condition, has bool, events toolsrecord.EventRecorder) error {
	obj := r.Store.Service(ref)
	if obj == nil {
		return nil
	}
	want := obj.DeepCopy()
	if !SetProblem(want, problem, has) {
		return nil
	}
	got, err := r.Clients.Kube.CoreV1().Services(want.Namespace).UpdateStatus(ctx, want, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("condition %s: %w", v1alpha1.ConditionNodePorts, err)
	}
	r.Store.Written(got)
	if has {
		events.Event(got, corev1.EventTypeWarning, problem.Reason, problem.Message)
	}
	return nil
}
