package cloud

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/announcer/observe"
	"github.com/fairlead/fairlead/internal/reconcile"
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
	plan := allocator.Decide(s, p.optionsNow())
	took := time.Since(began)
	seen := observe.Observe(s, began)
	p.metrics.Decided(plan, seen, took)
	p.items.Run(ctx, p.clean(s))
	p.items.Run(ctx, p.free(s, plan))
	p.items.Run(ctx, p.describe(plan, seen))
	findings, more := p.writer.Findings(s, seen)
	p.items.Run(ctx, slices.Concat(p.writer.Pools(s, plan, p.events), p.writer.Peers(s, seen), p.writer.NodePorts(s, seen, p.events), p.writer.ForgetNodes(s), findings))
	if more {
		p.loop.Wake()
	}
	p.loop.At(p.items.Next())
	p.loop.At(plan.Again)
	return nil
}

// optionsNow returns the options of a decision that is made now.
func (p *Provider) optionsNow() allocator.Options {
	opt := p.options
	opt.Now = time.Now()
	return opt
}

// clean returns the works that take our traces from Services that are not ours any
// more, such as those with a class. The service controller does that for the
// others, but for the conditions.
func (p *Provider) clean(s *snapshot.Snapshot) (works []reconcile.Work) {
	for _, svc := range record.Traces(s, p.options) {
		if svc.Deleting && svc.Class == "" {
			continue
		}
		works = append(works, p.status(svc.Ref, "traces", func(ctx context.Context, obj *corev1.Service) (*corev1.Service, error) {
			if svc.Class == "" {
				bare := record.WithStatus(obj)
				record.ClearConditions(bare)
				return bare, nil
			}
			if err := p.writer.Finalizers(ctx, obj, record.ForeignFinalizers(obj, svc)); err != nil {
				return nil, err
			}
			if obj = p.store.Service(svc.Ref); obj == nil {
				return nil, nil
			}
			bare, _ := record.Cleared(obj, s)
			return bare, nil
		}))
	}
	return works
}

// describe returns the works that keep conditions current.
func (p *Provider) describe(plan *allocator.Plan, seen observe.Observed) (works []reconcile.Work) {
	for _, o := range plan.Services {
		obj := p.store.Service(o.Ref)
		if !o.Kept || obj == nil || obj.DeletionTimestamp != nil {
			continue
		}
		want := record.WithStatus(obj)
		if record.SetConditions(want, o, seen.Announced(o.Ref, o.Addrs), time.Now()); equality.Semantic.DeepEqual(obj.Status, want.Status) {
			continue
		}
		works = append(works, p.status(o.Ref, "conditions", func(_ context.Context, obj *corev1.Service) (*corev1.Service, error) {
			svc := record.WithStatus(obj)
			record.SetConditions(svc, o, seen.Announced(o.Ref, o.Addrs), time.Now())
			return svc, nil
		}))
	}
	return works
}

// free returns the writes of the records that lose a holder who does not name the
// address in its status, and of those whose pool has another name now.
func (p *Provider) free(s *snapshot.Snapshot, plan *allocator.Plan) (works []reconcile.Work) {
	for _, w := range record.Writes(plan, s) {
		if gives(w) || p.attached(w.Addr(), w.Losers) != nil {
			continue
		}
		works = append(works, reconcile.Work{Key: "address " + w.Addr().String(), Version: w.Have.ResourceVersion, Do: func(ctx context.Context) error {
			return unlessConflict(p.writer.Record(ctx, w)) // the service controller was quicker
		}})
	}
	slices.SortFunc(works, func(a, b reconcile.Work) int { return cmp.Compare(a.Key, b.Key) })
	return works
}

func unlessConflict(err error) error {
	if apierrors.IsConflict(err) || errors.Is(err, record.ErrPaced) {
		return nil
	}
	return err
}

// gives reports whether w gives the address to somebody who does not hold it.
func gives(w record.Write) bool {
	if w.Want == nil {
		return false
	}
	return w.Have == nil || slices.ContainsFunc(w.Want.Holders, func(h snapshot.Holder) bool {
		return !slices.ContainsFunc(w.Have.Holders, func(o snapshot.Holder) bool { return o.Ref == h.Ref && o.UID == h.UID })
	})
}

// status returns the work that changes the status of one Service. A conflict is not an
// error: the newer version is on its way here and wakes the loop.
func (p *Provider) status(ref snapshot.Ref, what string, change func(context.Context, *corev1.Service) (*corev1.Service, error)) reconcile.Work {
	w := reconcile.Work{Key: what + " of service " + ref.String()}
	if obj := p.store.Service(ref); obj != nil {
		w.Version = obj.ResourceVersion
	}
	w.Do = func(ctx context.Context) error {
		obj := p.store.Service(ref)
		if obj == nil {
			return nil
		}
		want, err := change(ctx, obj)
		if want == nil || err != nil || equality.Semantic.DeepEqual(obj.Status, want.Status) {
			return unlessConflict(err)
		}
		_, err = p.writer.ServiceStatus(ctx, want)
		return unlessConflict(err)
	}
	return w
}
