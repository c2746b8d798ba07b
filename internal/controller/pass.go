package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
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
	writes map[netip.Addr]recordWrite
	once   map[netip.Addr]func() error // each record is written once, by the first Service that needs it
	by     map[netip.Addr][]string     // who announces
	failed map[snapshot.Ref]bool       // Services whose part of the first round failed
}

func (c *Controller) apply(ctx context.Context, s *snapshot.Snapshot, plan *allocator.Plan) error {
	p := &pass{Controller: c, snap: s, plan: plan, writes: recordWrites(plan, s), by: announcers(s)}
	p.once = make(map[netip.Addr]func() error, len(p.writes))
	for addr, w := range p.writes {
		p.once[addr] = sync.OnceValue(func() error { return p.writeRecord(ctx, w) })
	}
	var first, second []allocator.Outcome
	for _, o := range plan.Services {
		if p.takes(o) {
			second = append(second, o)
		} else {
			first = append(first, o)
		}
	}
	errs, failed := p.services(ctx, first)
	p.failed = failed
	more, _ := p.services(ctx, second)
	errs = append(errs, more...)
	errs = append(errs, p.leftovers()...)
	for _, svc := range toClean(s, c.Options) {
		errs = append(errs, p.clean(ctx, svc))
	}
	errs = append(errs, p.pools(ctx)...)
	errs = append(errs, p.forgetNodes(ctx)...)
	return errors.Join(errs...)
}

// takes tells whether o's records are taken from other holders.
func (p *pass) takes(o allocator.Outcome) bool {
	return slices.ContainsFunc(o.Addrs, func(a netip.Addr) bool { return len(p.writes[a].losers) > 0 })
}

// services makes outcomes true, some at a time.
func (p *pass) services(ctx context.Context, outcomes []allocator.Outcome) (errs []error, failed map[snapshot.Ref]bool) {
	failed = map[snapshot.Ref]bool{}
	var mu sync.Mutex
	each(outcomes, func(o allocator.Outcome) {
		if err := p.service(ctx, o); err != nil {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, fmt.Errorf("service %s: %w", o.Ref, err))
			failed[o.Ref] = true
		}
	})
	return errs, failed
}

func (p *pass) service(ctx context.Context, o allocator.Outcome) error {
	svc := p.snap.Service(o.Ref)
	obj := p.Store.Service(o.Ref)
	if svc == nil || obj == nil || string(obj.UID) != o.UID {
		return nil // gone or made anew since; the next pass sees it
	}
	if err := p.hold(ctx, svc, obj, o); err != nil {
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			p.Recorder.Event(obj, corev1.EventTypeWarning, "SyncLoadBalancerFailed", "Error syncing load balancer: "+err.Error())
		}
		return err
	}
	want, changed, events := wantStatus(p.Store.Service(o.Ref), o, announced(p.by, o.Addrs))
	if !changed {
		return nil
	}
	return p.writeStatus(ctx, want, events)
}

// hold makes sure of the finalizer and the records.
func (p *pass) hold(ctx context.Context, svc *snapshot.Service, obj *corev1.Service, o allocator.Outcome) error {
	if len(o.Addrs) == 0 {
		return nil
	}
	if len(svc.Ingress) == 0 {
		p.Recorder.Event(obj, corev1.EventTypeNormal, "EnsuringLoadBalancer", "Ensuring load balancer")
	}
	if name := finalizer(svc); !slices.Contains(obj.Finalizers, name) {
		if err := p.patchFinalizers(ctx, obj, append(slices.Clone(obj.Finalizers), name)); err != nil {
			return err
		}
	}
	for _, addr := range o.Addrs {
		for _, l := range p.writes[addr].losers {
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
		blocked := slices.ContainsFunc(w.losers, func(l snapshot.Holder) bool { return p.failed[l.Ref] })
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

func (p *pass) writeRecord(ctx context.Context, w recordWrite) error {
	name := v1alpha1.AddressName(w.addr())
	if w.want == nil {
		return p.deleteRecord(ctx, name, w.have)
	}
	obj := &v1alpha1.Address{ObjectMeta: metav1.ObjectMeta{Name: name}}
	obj.Spec = kube.FromAddress(snapshot.Address{
		Addr: w.want.Addr, Pool: w.want.Pool, ShareKey: w.want.ShareKey, Backend: w.want.Backend, Holders: w.want.Holders,
	})
	var got *v1alpha1.Address
	var err error
	if w.have == nil {
		got, err = p.Clients.Addresses.Create(ctx, obj, metav1.CreateOptions{})
	} else {
		obj.UID, obj.ResourceVersion = types.UID(w.have.UID), w.have.ResourceVersion
		got, err = p.Clients.Addresses.Update(ctx, obj, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("record of %s: %w", w.want.Addr, err)
	}
	p.Store.Written(got)
	p.Log.Info("address recorded", "address", w.want.Addr, "holders", w.want.Holders)
	return nil
}

func (p *pass) deleteRecord(ctx context.Context, name string, have *snapshot.Address) error {
	uid := types.UID(have.UID)
	err := p.Clients.Addresses.Delete(ctx, name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &have.ResourceVersion},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("free %s: %w", have.Addr, err)
	}
	p.Store.Removed(&v1alpha1.Address{ObjectMeta: metav1.ObjectMeta{Name: name}})
	p.Log.Info("address freed", "address", have.Addr)
	return nil
}

func (p *pass) writeStatus(ctx context.Context, want *corev1.Service, events []news) error {
	got, err := p.Clients.Kube.CoreV1().Services(want.Namespace).UpdateStatus(ctx, want, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	p.Store.Written(got)
	for _, e := range events {
		p.Recorder.Event(got, e.kind, e.reason, e.message)
	}
	return nil
}

func (p *pass) patchFinalizers(ctx context.Context, obj *corev1.Service, finalizers []string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"finalizers": finalizers, "resourceVersion": obj.ResourceVersion, "uid": obj.UID,
	}})
	if err != nil {
		return fmt.Errorf("finalizers: %w", err)
	}
	got, err := p.Clients.Kube.CoreV1().Services(obj.Namespace).Patch(ctx, obj.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("finalizers: %w", err)
	}
	p.Store.Written(got)
	return nil
}

// clean takes our traces from a Service that is ours no more, the finalizer
// last: it goes when no record names the Service.
func (p *pass) clean(ctx context.Context, svc *snapshot.Service) error {
	obj := p.Store.Service(svc.Ref)
	if obj == nil || string(obj.UID) != svc.UID {
		return nil
	}
	for addr, w := range p.writes {
		lost := slices.ContainsFunc(w.losers, func(l snapshot.Holder) bool { return l.UID == svc.UID })
		if !lost {
			continue
		}
		if err := p.once[addr](); err != nil {
			return fmt.Errorf("service %s: %w", svc.Ref, err)
		}
	}
	if want, changed := clearedStatus(obj); changed && !svc.Deleting {
		if err := p.writeStatus(ctx, want, []news{{corev1.EventTypeNormal, "DeletedLoadBalancer", "Deleted load balancer"}}); err != nil {
			return fmt.Errorf("service %s: %w", svc.Ref, err)
		}
		obj = p.Store.Service(svc.Ref)
	}
	ours := func(f string) bool {
		return f == v1alpha1.FinalizerClassed || f == v1alpha1.FinalizerClassless && svc.Class == ""
	}
	if obj == nil || !slices.ContainsFunc(obj.Finalizers, ours) {
		return nil
	}
	rest := slices.DeleteFunc(slices.Clone(obj.Finalizers), ours)
	if err := p.patchFinalizers(ctx, obj, rest); err != nil {
		return fmt.Errorf("service %s: %w", svc.Ref, err)
	}
	return nil
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
