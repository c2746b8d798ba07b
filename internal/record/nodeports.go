package record

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	toolsrecord "k8s.io/client-go/tools/record"

	"github.com/fairlead/fairlead/announcer/observe"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/plain"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// SetProblem makes svc's condition fairlead.io/NodePorts c, or takes it away if there
// is not a problem, and reports whether it says something new.
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

// NodePorts returns the writes into the statuses of Services, no matter who gives
// them addresses, of what nodes could not do for their node ports. The condition is
// the memory, so that no Event repeats when another replica leads.
func (r *Writer) NodePorts(s *snapshot.Snapshot, seen observe.Observed, events toolsrecord.EventRecorder) (works []reconcile.Work) {
	for _, svc := range s.Services {
		problem, has := seen.Problems[svc.Ref]
		_, told := svc.Conditions[v1alpha1.ConditionNodePorts]
		if !has && !told {
			continue
		}
		works = append(works, reconcile.Work{
			Key: "condition " + v1alpha1.ConditionNodePorts + " of service " + svc.Ref.String(), Version: svc.UID,
			Do: func(ctx context.Context) error { return r.nodePorts(ctx, svc.Ref, problem, has, events) },
		})
	}
	return works
}

func (r *Writer) nodePorts(ctx context.Context, ref snapshot.Ref, problem snapshot.Condition, has bool, events toolsrecord.EventRecorder) error {
	obj := r.Store.Service(ref)
	if obj == nil {
		return nil
	}
	want := obj.DeepCopy()
	if !SetProblem(want, problem, has) {
		return nil
	}
	got, err := r.ServiceStatus(ctx, want)
	if errors.Is(err, ErrPaced) {
		return nil
	}
	if has && got != nil {
		events.Event(got, corev1.EventTypeWarning, problem.Reason, plain.Text(problem.Message))
	}
	return err
}
