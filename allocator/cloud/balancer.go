package cloud

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/api"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/record"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// balancer is what the service controller calls, with the version of a Service
// that it has seen itself.
type balancer struct{ *Provider }

var _ cloudprovider.LoadBalancer = balancer{}

// GetLoadBalancer reports whether any record names svc, and the addresses.
func (b balancer) GetLoadBalancer(ctx context.Context, _ string, svc *corev1.Service) (*corev1.LoadBalancerStatus, bool, error) {
	s, err := b.waitForVersion(ctx, svc, true)
	if err != nil {
		return nil, false, err
	}
	var o allocator.Outcome
	for _, a := range holdings(s, svc) {
		o.Addrs = append(o.Addrs, a.Addr)
	}
	return &corev1.LoadBalancerStatus{Ingress: record.Ingress(o, svc)}, len(o.Addrs) > 0, nil
}

// GetLoadBalancerName is a name for logs.
func (b balancer) GetLoadBalancerName(_ context.Context, _ string, svc *corev1.Service) string {
	return cloudprovider.DefaultLoadBalancerName(svc)
}

// EnsureLoadBalancer writes the records of the addresses that svc should hold, and returns
// them. It returns a RetryError for a Service that is refused.
func (b balancer) EnsureLoadBalancer(ctx context.Context, _ string, svc *corev1.Service, _ []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	s, err := b.waitForVersion(ctx, svc, false)
	if err != nil {
		return nil, err
	}
	plan := allocator.Decide(s, b.optionsNow())
	at := slices.IndexFunc(plan.Services, func(o allocator.Outcome) bool { return o.Ref == refOf(svc) && o.UID == string(svc.UID) })
	if at < 0 {
		return nil, cloudprovider.ImplementedElsewhere // not ours any more: the caller will see that too
	}
	o := plan.Services[at]
	if len(o.Addrs) == 0 {
		return nil, b.refuse(ctx, o)
	}
	if err := b.writeRecords(ctx, s, svc, plan, o); err != nil {
		return nil, err
	}
	status := &corev1.LoadBalancerStatus{Ingress: record.Ingress(o, svc)}
	if o.Refusal != nil && equality.Semantic.DeepEqual(*status, svc.Status.LoadBalancer) {
		return nil, api.NewRetryError("keeps "+status.Ingress[0].IP+": "+o.Refusal.Message, retry)
	}
	return status, nil
}

// writeRecords writes the records of o. An address whose loser still names it in its
// status is not taken yet: the service controller will move that one first.
func (b balancer) writeRecords(ctx context.Context, s *snapshot.Snapshot, svc *corev1.Service, plan *allocator.Plan, o allocator.Outcome) error {
	writes := record.Writes(plan, s)
	for _, addr := range o.Addrs {
		w, ok := writes[addr]
		if !ok {
			if err := b.writer.Holds(ctx, s, svc, addr); err != nil {
				return err
			}
			continue
		}
		if l := b.attached(addr, w.Blockers()); l != nil {
			return api.NewRetryError(fmt.Sprintf("%s: %s is on its way to another address", addr, l.Ref), retry)
		}
		if err := b.writer.Record(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// attached returns one of holders whose Service is served here, or was served by
// another fairlead, and whose status still names addr. It returns nil without one.
func (p *Provider) attached(addr netip.Addr, holders []snapshot.Holder) *snapshot.Holder {
	for i, h := range holders {
		obj := p.store.Service(h.Ref)
		if obj == nil || string(obj.UID) != h.UID || !record.Names(obj, addr) {
			continue
		}
		if obj.Spec.Type == corev1.ServiceTypeLoadBalancer && obj.DeletionTimestamp == nil && (obj.Spec.LoadBalancerClass == nil || record.Assigns(obj, addr.String())) {
			return &holders[i]
		}
	}
	return nil
}

// refuse takes from o's Service the addresses that it has in its status and may not
// have, because the service controller would leave them there. Without any pool
// they stay: the first pool that has them lets the Service keep them.
func (b balancer) refuse(ctx context.Context, o allocator.Outcome) error {
	why := "no address"
	if o.Refusal != nil {
		why = o.Refusal.Message
	}
	if obj := b.store.Service(o.Ref); obj != nil && len(obj.Status.LoadBalancer.Ingress) > 0 && (o.Refusal == nil || o.Refusal.Reason != allocator.NoPool) {
		bare := obj.DeepCopy()
		bare.Status.LoadBalancer = corev1.LoadBalancerStatus{}
		if _, err := b.writer.ServiceStatus(ctx, bare); err != nil {
			return fmt.Errorf("clear status: %w", err)
		}
	}
	return api.NewRetryError(why, retry)
}

// UpdateLoadBalancer does nothing: which nodes announce is not decided here.
func (b balancer) UpdateLoadBalancer(context.Context, string, *corev1.Service, []*corev1.Node) error {
	return nil
}

// EnsureLoadBalancerDeleted takes svc out of every record. Who waits for the
// address gets it when it asks the next time.
func (b balancer) EnsureLoadBalancerDeleted(ctx context.Context, _ string, svc *corev1.Service) error {
	s, err := b.waitForVersion(ctx, svc, true)
	if err != nil {
		return err
	}
	for _, a := range holdings(s, svc) {
		if p := s.Pool(a.Pool); p != nil && p.CoolDown > 0 {
			continue // the loop frees it, which remembers who had it
		}
		w := record.Write{Have: a}
		rest := slices.DeleteFunc(slices.Clone(a.Holders), func(h snapshot.Holder) bool { return h.UID == string(svc.UID) })
		if len(rest) > 0 {
			w.Want = &allocator.AddressWant{Addr: a.Addr, Pool: a.Pool, Node: a.Node, ShareKey: a.ShareKey, ShareGroup: a.ShareGroup, Holders: rest}
		}
		if err := b.writer.Record(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// holdings returns the records that name svc.
func holdings(s *snapshot.Snapshot, svc *corev1.Service) []*snapshot.Address {
	return slices.DeleteFunc(slices.Concat(s.Addresses, s.NodeAddresses), func(a *snapshot.Address) bool {
		return !slices.ContainsFunc(a.Holders, func(h snapshot.Holder) bool { return h.UID == string(svc.UID) && h.Ref == refOf(svc) })
	})
}

func refOf(svc *corev1.Service) snapshot.Ref {
	return snapshot.Ref{Namespace: svc.Namespace, Name: svc.Name}
}
