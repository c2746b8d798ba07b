package controller

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/announcer/observe"
	"github.com/fairlead/fairlead/internal/plain"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/record"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// pass makes one Plan true. The order of effects: first the statuses of Services that
// are not ours any more, then for every Service of ours its Address records and its
// status. A record that another Service is to lose is written only after that
// Service holds its new one, or after its status has been cleared.
type pass struct {
	*Controller
	snap    *snapshot.Snapshot
	plan    *allocator.Plan
	writes  map[netip.Addr]record.Write
	once    map[netip.Addr]func() error // each record is written once, by the first Service that needs it
	seen    observe.Observed
	pending pending
	current sync.Map // UIDs of the Services whose status this pass has written: they were as it had seen them
}

// pending holds the UIDs of the Services that have been begun and have not succeeded. Nobody gets
// what they are to lose. It is safe for concurrent use: a work may outlive its pass.
type pending struct {
	mu   sync.Mutex
	uids map[string]bool
}

func (p *pending) begin(uid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.uids[uid] = true
}

func (p *pending) end(uid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.uids, uid)
}

// one returns one of holders that is pending, or nil.
func (p *pending) one(holders []snapshot.Holder) *snapshot.Holder {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range holders {
		if p.uids[holders[i].UID] {
			return &holders[i]
		}
	}
	return nil
}

// errWaits means that a Service waits for another one, whose own error is told.
var errWaits = errors.New("waits for another Service")

func (c *Controller) apply(ctx context.Context, s *snapshot.Snapshot, plan *allocator.Plan, seen observe.Observed) {
	p := &pass{
		Controller: c, snap: s, plan: plan, writes: record.Writes(plan, s), seen: seen, pending: pending{uids: map[string]bool{}},
	}
	p.once = make(map[netip.Addr]func() error, len(p.writes))
	for addr, w := range p.writes {
		p.once[addr] = sync.OnceValue(func() error { return c.writer.Record(ctx, p.unproven(w)) })
	}
	p.run(ctx, p.cleanings())
	for _, round := range record.Rounds(plan, p.writes) {
		p.run(ctx, p.outcomes(round))
	}
	c.items.Run(ctx, p.leftovers())
	findings, more := c.writer.Findings(s, seen)
	c.items.Run(ctx, slices.Concat(c.writer.Pools(s, plan, c.Recorder), c.writer.Peers(s, seen), c.writer.NodePorts(s, seen, c.Recorder), c.writer.ForgetNodes(s), findings))
	if more {
		c.loop.Wake()
	}
	c.loop.At(c.items.Next())
	c.loop.At(plan.Again)
}

// unproven returns w with those losers alone that the API server has to be asked about. A node
// that leaves may be lost by thousands of Services, which this pass has all written.
func (p *pass) unproven(w record.Write) record.Write {
	w.Losers = slices.DeleteFunc(slices.Clone(w.Losers), func(l snapshot.Holder) bool {
		_, current := p.current.Load(l.UID)
		return current
	})
	return w
}

// job is what is to be done for one Service.
type job struct {
	obj *corev1.Service
	do  func(context.Context) error
}

// run does jobs that do not depend on each other.
func (p *pass) run(ctx context.Context, jobs []job) {
	works := make([]reconcile.Work, 0, len(jobs))
	for _, j := range jobs {
		ref := snapshot.Ref{Namespace: j.obj.Namespace, Name: j.obj.Name}
		p.pending.begin(string(j.obj.UID))
		works = append(works, reconcile.Work{Key: "service " + ref.String(), Version: j.obj.ResourceVersion, Do: func(ctx context.Context) error {
			err := j.do(ctx)
			switch {
			case errors.Is(err, errWaits), errors.Is(err, record.ErrPaced):
				return nil // the next pass asks again
			case err == nil:
				p.pending.end(string(j.obj.UID))
			case !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err):
				p.Recorder.Event(j.obj, corev1.EventTypeWarning, "SyncLoadBalancerFailed", "Error syncing load balancer: "+plain.Text(err.Error())+". Next: nothing, as it is tried again; if it stays, ask the cluster's administrator")
			}
			return err
		}})
	}
	p.items.Run(ctx, works)
}

// object returns the API object of a Service; nil if it is gone or was made again
// since. The next pass sees that.
func (p *pass) object(ref snapshot.Ref, uid string) *corev1.Service {
	obj := p.Store.Service(ref)
	if obj == nil || string(obj.UID) != uid {
		return nil
	}
	return obj
}

// outcomes returns the jobs of one round: of those Services that are not yet as their
// outcome says.
func (p *pass) outcomes(round []allocator.Outcome) (jobs []job) {
	for _, o := range round {
		svc, obj := p.snap.Service(o.Ref), p.object(o.Ref, o.UID)
		if svc == nil || obj == nil || svc.Deleting {
			continue
		}
		_, changed, _ := p.wantStatus(obj, o)
		written := !slices.ContainsFunc(o.Addrs, func(a netip.Addr) bool { return p.once[a] != nil })
		finalizers := p.finalizers(obj, svc)
		if !changed && written && len(finalizers) == len(obj.Finalizers) {
			continue
		}
		jobs = append(jobs, job{obj, func(ctx context.Context) error { return p.service(ctx, obj, o, finalizers) }})
	}
	return jobs
}

func (p *pass) wantStatus(obj *corev1.Service, o allocator.Outcome) (*corev1.Service, bool, []event) {
	return wantStatus(obj, o, p.seen.Announced(o.Ref, o.Addrs), time.Now())
}

// service makes one outcome true. The finalizers are those that are to stay.
func (p *pass) service(ctx context.Context, obj *corev1.Service, o allocator.Outcome, finalizers []string) error {
	if len(o.Addrs) > 0 && len(obj.Status.LoadBalancer.Ingress) == 0 {
		p.Recorder.Event(obj, corev1.EventTypeNormal, "EnsuringLoadBalancer", "Ensuring load balancer")
	}
	for _, addr := range o.Addrs {
		if err := p.record(ctx, obj, addr); err != nil {
			return err
		}
	}
	if want, changed, events := p.wantStatus(obj, o); changed {
		got, err := p.writeStatus(ctx, obj, want, events)
		if got == nil || err != nil {
			return err
		}
		obj = got
	}
	if err := p.writer.Finalizers(ctx, obj, finalizers); err != nil {
		return err
	}
	p.inherited.Delete(o.UID)
	return nil
}

// record writes the record of addr for obj, if it is to be written.
func (p *pass) record(ctx context.Context, obj *corev1.Service, addr netip.Addr) error {
	write, ok := p.once[addr]
	if !ok {
		return p.writer.Holds(ctx, p.snap, obj, addr)
	}
	if l := p.pending.one(p.writes[addr].Blockers()); l != nil {
		return fmt.Errorf("%w: address %s: %s does not hold its new address yet", errWaits, addr, l.Ref)
	}
	return write()
}

// finalizers returns those that are to stay on svc.
func (p *pass) finalizers(obj *corev1.Service, svc *snapshot.Service) []string {
	if _, ours := p.inherited.Load(svc.UID); !ours {
		return obj.Finalizers
	}
	return record.ForeignFinalizers(obj, svc)
}

// inherit notes the Services that have a finalizer of version 0.1 when this replica
// begins to lead. It is taken away once: somebody who adds it again needs it.
func (c *Controller) inherit(s *snapshot.Snapshot) {
	c.inherited.Clear()
	for _, svc := range s.Services {
		if obj := c.Store.Service(svc.Ref); obj != nil && len(record.ForeignFinalizers(obj, svc)) < len(obj.Finalizers) {
			c.inherited.Store(svc.UID, true)
		}
	}
}

// leftovers returns the writes of the records that no Service asked for: deletions,
// and holders that went away from a shared address.
func (p *pass) leftovers() (works []reconcile.Work) {
	for addr, w := range p.writes {
		version := ""
		if w.Have != nil {
			version = w.Have.ResourceVersion
		}
		if p.pending.one(w.Losers) == nil {
			works = append(works, reconcile.Work{Key: "address " + addr.String(), Version: version, Do: func(context.Context) error { return p.once[addr]() }})
		}
	}
	slices.SortFunc(works, func(a, b reconcile.Work) int { return strings.Compare(a.Key, b.Key) })
	return works
}

func (p *pass) writeStatus(ctx context.Context, old, want *corev1.Service, events []event) (*corev1.Service, error) {
	got, err := p.writer.ServiceStatus(ctx, want)
	if got == nil || err != nil {
		return nil, err
	}
	p.current.Store(string(got.UID), true)
	p.metrics.observeStatus(old, got)
	for _, e := range events {
		p.metrics.countEvent(e)
		p.Recorder.Event(got, e.kind, e.reason, plain.Text(e.message))
	}
	return got, nil
}

// cleanings returns the jobs of the Services that are not ours any more.
func (p *pass) cleanings() (jobs []job) {
	for _, svc := range record.Traces(p.snap, p.Options) {
		if obj := p.object(svc.Ref, svc.UID); obj != nil {
			jobs = append(jobs, job{obj, func(ctx context.Context) error { return p.clean(ctx, svc, obj) }})
		}
	}
	return jobs
}

// clean takes our traces from a Service that is not ours any more. The condition goes
// last: by it, what is left after a crash is found. The records are freed after that,
// because no Plan has them.
func (p *pass) clean(ctx context.Context, svc *snapshot.Service, obj *corev1.Service) error {
	finalizers := record.ForeignFinalizers(obj, svc)
	if err := p.writer.Finalizers(ctx, obj, finalizers); err != nil {
		return err
	}
	if svc.Deleting && len(finalizers) == 0 {
		return nil // its status goes with it
	}
	if obj = p.object(svc.Ref, svc.UID); obj == nil {
		return nil
	}
	bare, changed := record.Cleared(obj, p.snap)
	if !changed {
		return nil
	}
	p.Recorder.Event(obj, corev1.EventTypeNormal, "DeletingLoadBalancer", "Deleting load balancer")
	if _, err := p.writeStatus(ctx, obj, bare, nil); err != nil {
		return err
	}
	p.Recorder.Event(obj, corev1.EventTypeNormal, "DeletedLoadBalancer", "Deleted load balancer")
	return nil
}
