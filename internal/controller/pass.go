package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/announcer/observe"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/record"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// writers is how many API writes are under way at once.
const writers = 32

// pass makes one Plan true. The order of effects for every Service: finalizer,
// Address records, status. A record that another Service is to lose is written
// only after that Service holds its new one.
type pass struct {
	*Controller
	snap   *snapshot.Snapshot
	plan   *allocator.Plan
	writes map[netip.Addr]record.Write
	once   map[netip.Addr]func() error // each record is written once, by the first Service that needs it
	seen   observe.Observed
	failed map[snapshot.Ref]bool // Services whose part of an earlier round failed
}

func (c *Controller) apply(ctx context.Context, s *snapshot.Snapshot, plan *allocator.Plan, seen observe.Observed) error {
	p := &pass{
		Controller: c, snap: s, plan: plan, writes: record.Writes(plan, s), seen: seen, failed: map[snapshot.Ref]bool{},
	}
	p.once = make(map[netip.Addr]func() error, len(p.writes))
	for addr, w := range p.writes {
		p.once[addr] = sync.OnceValue(func() error { return c.writer.Record(ctx, w) })
	}
	var errs []error
	for _, round := range record.Rounds(plan, p.writes) {
		errs = append(errs, p.services(ctx, round)...)
	}
	errs = append(errs, p.leftovers()...)
	for _, svc := range toClean(s, c.Options) {
		errs = append(errs, p.clean(ctx, svc))
	}
	errs = append(errs, c.writer.Pools(ctx, s, plan)...)
	errs = append(errs, c.writer.Peers(ctx, s, seen)...)
	errs = append(errs, c.writer.NodePorts(ctx, s, seen, c.Recorder)...)
	errs = append(errs, c.writer.ForgetNodes(ctx, s)...)
	more, err := c.writer.Findings(ctx, s, seen)
	if more {
		c.loop.Wake()
	}
	errs = append(errs, err)
	return errors.Join(errs...)
}

// services makes the outcomes of one round true, some at a time.
func (p *pass) services(ctx context.Context, round []allocator.Outcome) (errs []error) {
	failed := map[snapshot.Ref]bool{}
	var mu sync.Mutex
	each(round, func(o allocator.Outcome) {
		if err := p.service(ctx, o); err != nil {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, fmt.Errorf("service %s: %w", o.Ref, err))
			failed[o.Ref] = true
		}
	})
	maps.Copy(p.failed, failed)
	return errs
}

func (p *pass) service(ctx context.Context, o allocator.Outcome) error {
	svc := p.snap.Service(o.Ref)
	obj := p.Store.Service(o.Ref)
	if svc == nil || obj == nil || string(obj.UID) != o.UID {
		return nil // gone or made anew since; the next pass sees it
	}
	if svc.Deleting {
		return nil // see clean
	}
	if err := p.ensureRecords(ctx, svc, obj, o); err != nil {
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			p.Recorder.Event(obj, corev1.EventTypeWarning, "SyncLoadBalancerFailed", "Error syncing load balancer: "+err.Error())
		}
		return err
	}
	if obj = p.Store.Service(o.Ref); obj == nil {
		return nil
	}
	want, changed, events := wantStatus(obj, o, p.seen.Announced(o.Addrs), time.Now())
	if !changed {
		return nil
	}
	return p.writeStatus(ctx, obj, want, events)
}

// ensureRecords makes sure of the finalizer and the records.
func (p *pass) ensureRecords(ctx context.Context, svc *snapshot.Service, obj *corev1.Service, o allocator.Outcome) error {
	if len(o.Addrs) == 0 {
		return nil
	}
	if len(svc.Ingress) == 0 {
		p.Recorder.Event(obj, corev1.EventTypeNormal, "EnsuringLoadBalancer", "Ensuring load balancer")
	}
	if name := finalizer(svc); !slices.Contains(obj.Finalizers, name) {
		if err := p.writer.Finalizers(ctx, obj, append(slices.Clone(obj.Finalizers), name)); err != nil {
			return err
		}
	}
	for _, addr := range o.Addrs {
		for _, l := range p.writes[addr].Losers {
			if p.failed[l.Ref] {
				return fmt.Errorf("address %s: %s does not hold its new address yet", addr, l.Ref)
			}
		}
		if write, ok := p.once[addr]; ok {
			if err := write(); err != nil {
				return err
			}
		}
	}
	return nil
}

// leftovers writes the records that no Service asked for: deletions, and
// holders that went away from a shared address.
func (p *pass) leftovers() []error {
	var mu sync.Mutex
	var errs []error
	rest := make([]netip.Addr, 0, len(p.once))
	for addr, w := range p.writes {
		blocked := slices.ContainsFunc(w.Losers, func(l snapshot.Holder) bool { return p.failed[l.Ref] })
		if !blocked {
			rest = append(rest, addr)
		}
	}
	slices.SortFunc(rest, netip.Addr.Compare)
	each(rest, func(addr netip.Addr) {
		if err := p.once[addr](); err != nil {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		}
	})
	return errs
}

func (p *pass) writeStatus(ctx context.Context, old, want *corev1.Service, events []event) error {
	got, err := p.writer.ServiceStatus(ctx, want)
	if got == nil || err != nil {
		return err
	}
	p.metrics.observeStatus(old, got)
	for _, e := range events {
		p.metrics.countEvent(e)
		p.Recorder.Event(got, e.kind, e.reason, e.message)
	}
	return nil
}

// clean takes our traces from a Service that is ours no more, the finalizer
// last: it goes when no record names the Service.
func (p *pass) clean(ctx context.Context, svc *snapshot.Service) error {
	obj := p.Store.Service(svc.Ref)
	if obj == nil || string(obj.UID) != svc.UID {
		return nil
	}
	bare, changed := clearedStatus(obj)
	if changed {
		p.Recorder.Event(obj, corev1.EventTypeNormal, "DeletingLoadBalancer", "Deleting load balancer")
	}
	for addr, w := range p.writes {
		if !w.Takes(svc.UID) {
			continue
		}
		if err := p.once[addr](); err != nil {
			return fmt.Errorf("service %s: %w", svc.Ref, err)
		}
	}
	if err := p.unmark(ctx, obj, bare, changed && !svc.Deleting); err != nil {
		return fmt.Errorf("service %s: %w", svc.Ref, err)
	}
	if changed {
		p.Recorder.Event(obj, corev1.EventTypeNormal, "DeletedLoadBalancer", "Deleted load balancer")
	}
	return nil
}

// unmark takes the status, if it is to be cleared, and then the finalizer from
// a Service that no record names. The status of one that is being deleted goes
// with it.
func (p *pass) unmark(ctx context.Context, obj, bare *corev1.Service, clear bool) error {
	if clear {
		if err := p.writeStatus(ctx, obj, bare, nil); err != nil {
			return err
		}
		obj = p.Store.Service(snapshot.Ref{Namespace: obj.Namespace, Name: obj.Name})
	}
	ours := func(f string) bool {
		return f == v1alpha1.FinalizerClassed || f == v1alpha1.FinalizerClassless && bare.Spec.LoadBalancerClass == nil
	}
	if obj == nil || !slices.ContainsFunc(obj.Finalizers, ours) {
		return nil
	}
	return p.writer.Finalizers(ctx, obj, slices.DeleteFunc(slices.Clone(obj.Finalizers), ours))
}

// each calls f for every item, at most writers at a time, and waits.
func each[T any](items []T, f func(T)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, writers)
	for _, item := range items {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f(item)
		})
	}
	wg.Wait()
}
