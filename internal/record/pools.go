package record

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolsrecord "k8s.io/client-go/tools/record"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/plain"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Pools returns the writes of the counters and conditions of the pools that changed.
// Events on a pool tell that it follows another prefix now.
func (r *Writer) Pools(s *snapshot.Snapshot, plan *allocator.Plan, events toolsrecord.EventRecorder) (works []reconcile.Work) {
	for _, o := range plan.Pools {
		pool := s.Pool(o.Name)
		if pool == nil || samePool(pool, o) {
			continue
		}
		works = append(works, reconcile.Work{Key: "pool " + o.Name, Do: func(ctx context.Context) error { return unlessGone(r.pool(ctx, pool.UID, o, events)) }})
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
		have.Conditions[v1alpha1.ConditionConflicting] == want.Conflicting &&
		have.Conditions[v1alpha1.ConditionPrefix] == want.Prefix && snapshot.SamePrefixes(have.Prefixes, want.Prefixes) &&
		have.Conditions[v1alpha1.ConditionLeases] == want.Leasing && slices.EqualFunc(have.Leases, want.Leases, snapshot.PoolLease.Same)
}

func (r *Writer) pool(ctx context.Context, uid string, o allocator.PoolOutcome, events toolsrecord.EventRecorder) error {
	obj, err := r.Clients.Pools.Get(ctx, o.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if string(obj.UID) != uid {
		return nil // it was made again, and o is not about that one
	}
	obj.Status.ObservedGeneration = o.Status.ObservedGeneration
	obj.Status.IPv4 = v1alpha1.AddressCount(o.Status.IPv4)
	obj.Status.IPv6 = v1alpha1.AddressCount(o.Status.IPv6)
	was := obj.Status.Prefixes
	obj.Status.Prefixes = kube.FromPrefixes(o.Prefixes)
	obj.Status.Leases = kube.FromLeases(o.Leases)
	conditions := map[string]snapshot.Condition{
		v1alpha1.ConditionReady: o.Ready, v1alpha1.ConditionConflicting: o.Conflicting, v1alpha1.ConditionPrefix: o.Prefix, v1alpha1.ConditionLeases: o.Leasing,
	}
	for kind, c := range conditions {
		if c.Reason == "" { // not every pool has it
			meta.RemoveStatusCondition(&obj.Status.Conditions, kind)
			continue
		}
		meta.SetStatusCondition(&obj.Status.Conditions, metav1.Condition{
			Type: kind, Status: metav1.ConditionStatus(c.Status), Reason: c.Reason, Message: plain.Text(c.Message), ObservedGeneration: o.Status.ObservedGeneration,
		})
	}
	got, err := r.Clients.Pools.UpdateStatus(ctx, obj, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	r.Store.Written(got)
	if text := turned(was, got.Status.Prefixes); text != "" {
		// A recorder of client-go knows Kubernetes' own kinds alone, and needs a reference to
		// any other object.
		ref := &corev1.ObjectReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "AddressPool", Name: got.Name, UID: got.UID}
		events.Event(ref, corev1.EventTypeNormal, "PrefixChanged", text)
	}
	return nil
}

// turned says which prefix a pool follows now that its prefixes are not old any more, and
// until when it keeps the one before; "" if it follows the same one.
func turned(old, now []v1alpha1.PoolPrefix) string {
	current := func(list []v1alpha1.PoolPrefix) string {
		for _, k := range list {
			if k.State == v1alpha1.PrefixState(snapshot.PrefixCurrent) {
				return k.Prefix
			}
		}
		return ""
	}
	before, after := current(old), current(now)
	switch {
	case after == "" || before == after:
		return ""
	case before == "":
		return "gives addresses of " + after + " from now on"
	}
	text := "gives addresses of " + after + " from now on, instead of " + before
	for _, k := range now {
		if k.Prefix == before && k.Until != nil {
			text += ". Services keep their addresses of the former one until " + k.Until.UTC().Format(time.RFC3339)
		}
	}
	return text
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
