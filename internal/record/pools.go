package record

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/plain"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Pools returns the writes of the counters and conditions of the pools that changed.
func (r *Writer) Pools(s *snapshot.Snapshot, plan *allocator.Plan) (works []reconcile.Work) {
	for _, o := range plan.Pools {
		pool := s.Pool(o.Name)
		if pool == nil || samePool(pool, o) {
			continue
		}
		works = append(works, reconcile.Work{Key: "pool " + o.Name, Do: func(ctx context.Context) error { return unlessGone(r.pool(ctx, o)) }})
	}
	return works
}

// unlessGone returns err, nil if the object is not there.
func unlessGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func samePool(have *snapshot.Pool, want allocator.PoolOutcome) bool {
	return have.Status == want.Status && have.Conditions[v1alpha1.ConditionReady] == want.Ready &&
		have.Conditions[v1alpha1.ConditionConflicting] == want.Conflicting
}

func (r *Writer) pool(ctx context.Context, o allocator.PoolOutcome) error {
	obj, err := r.Clients.Pools.Get(ctx, o.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	obj.Status.ObservedGeneration = o.Status.ObservedGeneration
	obj.Status.IPv4 = v1alpha1.AddressCount(o.Status.IPv4)
	obj.Status.IPv6 = v1alpha1.AddressCount(o.Status.IPv6)
	for kind, c := range map[string]snapshot.Condition{v1alpha1.ConditionReady: o.Ready, v1alpha1.ConditionConflicting: o.Conflicting} {
		meta.SetStatusCondition(&obj.Status.Conditions, metav1.Condition{
			Type: kind, Status: metav1.ConditionStatus(c.Status), Reason: c.Reason, Message: plain.Text(c.Message), ObservedGeneration: o.Status.ObservedGeneration,
		})
	}
	got, err := r.Clients.Pools.UpdateStatus(ctx, obj, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	r.Store.Written(got)
	return nil
}

// ForgetNodes returns the deletions of the NodeStates of nodes that are gone.
func (r *Writer) ForgetNodes(s *snapshot.Snapshot) (works []reconcile.Work) {
	for _, st := range s.NodeStates {
		if s.Node(st.Node) != nil {
			continue
		}
		works = append(works, reconcile.Work{Key: "node state " + st.Node, Do: func(ctx context.Context) error {
			return unlessGone(r.Clients.NodeStates.Delete(ctx, st.Node, metav1.DeleteOptions{}))
		}})
	}
	return works
}
