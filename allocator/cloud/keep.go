package cloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/announcer/observe"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/record"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// keep does what the service controller does not know of: it frees the addresses
// that nobody names any more, and keeps conditions and counters current. It
// gives no address to anybody.
func (p *Provider) keep(ctx context.Context) error {
	s := p.store.Snapshot()
	if s == nil {
		return nil
	}
	began := time.Now()
	plan := allocator.Decide(s, p.options)
	took := time.Since(began)
	seen := observe.Observe(s)
	p.metrics.Decided(plan, seen, took)
	errs := p.free(ctx, s, plan)
	for _, o := range plan.Services {
		if o.Kept {
			errs = append(errs, p.describe(ctx, o.Ref, func(svc *corev1.Service) {
				record.SetConditions(svc, o, seen.Announced(o.Addrs), time.Now())
			}))
		}
	}
	for _, svc := range s.Services {
		if _, marked := svc.Conditions[v1alpha1.ConditionAddressAssigned]; marked && svc.Type != snapshot.LoadBalancer {
			errs = append(errs, p.describe(ctx, svc.Ref, record.ClearConditions))
		}
	}
	errs = append(errs, p.writer.Pools(ctx, s, plan)...)
	errs = append(errs, p.writer.NodePorts(ctx, s, seen, p.events)...)
	errs = append(errs, p.writer.ForgetNodes(ctx, s)...)
	more, err := p.writer.Findings(ctx, s, seen)
	if more {
		p.loop.Wake()
	}
	errs = append(errs, err)
	return errors.Join(errs...)
}

// free writes the records that lose a holder who does not name the address in
// its status, and those whose pool has another name now.
func (p *Provider) free(ctx context.Context, s *snapshot.Snapshot, plan *allocator.Plan) []error {
	var writes []record.Write
	for _, w := range record.Writes(plan, s) {
		if !gives(w) && p.attached(w.Addr(), w.Losers) == nil {
			writes = append(writes, w)
		}
	}
	slices.SortFunc(writes, func(a, b record.Write) int { return a.Addr().Compare(b.Addr()) })
	var errs []error
	for _, w := range writes {
		// A conflict means that the service controller was quicker.
		if err := p.writer.Record(ctx, w); err != nil && !apierrors.IsConflict(err) {
			errs = append(errs, err)
		}
	}
	return errs
}

// gives tells whether w gives the address to somebody who does not hold it.
func gives(w record.Write) bool {
	if w.Want == nil {
		return false
	}
	return w.Have == nil || slices.ContainsFunc(w.Want.Holders, func(h snapshot.Holder) bool {
		return !slices.ContainsFunc(w.Have.Holders, func(o snapshot.Holder) bool { return o.Ref == h.Ref && o.UID == h.UID })
	})
}

// describe changes the conditions of one Service. A conflict is no error: the
// newer version is on its way here and wakes the loop.
func (p *Provider) describe(ctx context.Context, ref snapshot.Ref, change func(*corev1.Service)) error {
	obj := p.store.Service(ref)
	if obj == nil || obj.DeletionTimestamp != nil {
		return nil
	}
	want := obj.DeepCopy()
	change(want)
	if equality.Semantic.DeepEqual(obj.Status, want.Status) {
		return nil
	}
	if _, err := p.writer.ServiceStatus(ctx, want); err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("conditions of %s: %w", ref, err)
	}
	return nil
}
