package record

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/observe"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/plain"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// mostStatuses is how many Addresses' statuses are written before other work
// continues.
const mostStatuses = 50

// Findings returns the writes of what the nodes found into the statuses of the
// Addresses, and whether there are more.
func (r *Writer) Findings(s *snapshot.Snapshot, seen observe.Observed) (works []reconcile.Work, more bool) {
	for _, a := range s.Addresses {
		want := observe.Merge(a, seen.Addresses[a.Addr].Finding)
		same := want.ProbedAt.Equal(a.ProbedAt) && want.Conflict == a.Conflict && want.Conflicting == a.Conflicting
		if a.Deleting || same {
			continue
		}
		if len(works) == mostStatuses {
			return works, true
		}
		works = append(works, reconcile.Work{
			Key: "status of address " + a.Addr.String(), Version: a.ResourceVersion,
			Do: func(ctx context.Context) error { return r.addressStatus(ctx, want) },
		})
	}
	return works, false
}

func (r *Writer) addressStatus(ctx context.Context, a snapshot.Address) error {
	obj := &v1alpha1.Address{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AddressName(a.Addr), UID: types.UID(a.UID), ResourceVersion: a.ResourceVersion},
		Spec:       kube.FromAddress(a), Status: v1alpha1.AddressStatus{Conflict: a.Conflict},
	}
	if !a.ProbedAt.IsZero() {
		obj.Status.ProbedAt = &metav1.Time{Time: a.ProbedAt}
	}
	if a.Conflicting != "" {
		meta.SetStatusCondition(&obj.Status.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionConflicting, Status: metav1.ConditionTrue, Reason: string(announcer.AddressConflict), Message: plain.Text(a.Conflicting),
		})
	}
	got, err := r.Clients.Addresses.UpdateStatus(ctx, obj, metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	r.Store.Written(got)
	return nil
}
