package record

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/observe"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// mostStatuses is how many Addresses' statuses are written before other work
// continues, statusWriters how many at once.
const mostStatuses, statusWriters = 200, 8

// Findings writes what the nodes found into the statuses of the Addresses, and
// reports whether there is more to write.
func (r *Writer) Findings(ctx context.Context, s *snapshot.Snapshot, seen observe.Observed) (more bool, err error) {
	var due []snapshot.Address
	for _, a := range s.Addresses {
		want := observe.Merge(a, seen.Addresses[a.Addr].Finding)
		same := want.ProbedAt.Equal(a.ProbedAt) && want.Conflict == a.Conflict && want.Conflicting == a.Conflicting
		if !a.Deleting && !same {
			due = append(due, want)
		}
	}
	errs := make([]error, min(len(due), mostStatuses))
	var group errgroup.Group
	group.SetLimit(statusWriters)
	for i := range errs {
		group.Go(func() error {
			errs[i] = r.addressStatus(ctx, due[i])
			return nil
		})
	}
	_ = group.Wait()
	return len(due) > mostStatuses, errors.Join(errs...)
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
			Type: v1alpha1.ConditionConflicting, Status: metav1.ConditionTrue, Reason: string(announcer.AddressConflict), Message: a.Conflicting,
		})
	}
	got, err := r.Clients.Addresses.UpdateStatus(ctx, obj, metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("status of %s: %w", a.Addr, err)
	}
	r.Store.Written(got)
	return nil
}
