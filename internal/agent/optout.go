package agent

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// accelerateLabel on a namespace or a pod, with the value "off", leaves its
// sockets to the engine. A pod's goes before its namespace's.
const accelerateLabel = "fairlead.io/accelerate"

// staticPodUID is where the kubelet says by which UID it knows a static pod.
const staticPodUID = "kubernetes.io/config.hash"

// pods tells the Accelerator which of this node's pods opted out.
type pods struct {
	cfg      *Config
	changed  func()
	informer atomic.Pointer[cache.SharedIndexInformer] // nil if nobody asks
}

// Run follows the node's pods until ctx ends, where anything accelerates them.
func (p *pods) Run(ctx context.Context) error {
	if p.cfg.Accelerator == nil || !p.cfg.Accelerator.State().Wanted {
		return nil
	}
	here := informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", p.cfg.Node).String()
	})
	inf := informers.NewSharedInformerFactoryWithOptions(p.cfg.Clients.Kube, 0, here).Core().V1().Pods().Informer()
	if err := inf.SetTransform(trimPod); err != nil {
		return fmt.Errorf("informer: %w", err)
	}
	wake := func(any) { p.changed() }
	if _, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: wake, UpdateFunc: func(_, obj any) { wake(obj) }, DeleteFunc: wake,
	}); err != nil {
		return fmt.Errorf("informer: %w", err)
	}
	p.informer.Store(&inf)
	go func() { // a node without pods has no event
		if cache.WaitForCacheSync(ctx.Done(), inf.HasSynced) {
			p.changed()
		}
	}()
	inf.Run(ctx.Done())
	return nil
}

// trimPod keeps of a pod what is looked at.
func trimPod(obj any) (any, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	out := &corev1.Pod{Status: corev1.PodStatus{Phase: p.Status.Phase}}
	out.Name, out.Namespace, out.UID, out.ResourceVersion, out.Labels = p.Name, p.Namespace, p.UID, p.ResourceVersion, p.Labels
	if static := p.Annotations[staticPodUID]; static != "" {
		out.Annotations = map[string]string{staticPodUID: static}
	}
	return out, nil
}

// exclude tells the Accelerator which pods opted out, and returns when to do so
// again: one that is only being made is looked for after a second. Zero: no such
// time.
func (p *pods) exclude(s *snapshot.Snapshot) (again time.Time) {
	inf := p.informer.Load()
	if inf == nil || !(*inf).HasSynced() {
		return again // not known is not none
	}
	p.cfg.Accelerator.Exclude(optedOut((*inf).GetStore().List(), s))
	if p.cfg.Accelerator.State().PodsMissing > 0 {
		again = time.Now().Add(time.Second)
	}
	return again
}

// optedOut returns the UIDs of the pods that run and opted out, sorted.
func optedOut(pods []any, s *snapshot.Snapshot) (uids []string) {
	for _, obj := range pods {
		p, ok := obj.(*corev1.Pod)
		// A pod that has ended has no cgroup: it would be looked for every second.
		if !ok || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		choice, own := p.Labels[accelerateLabel]
		if ns := s.Namespace(p.Namespace); !own && ns != nil {
			choice = ns.Labels[accelerateLabel]
		}
		if choice == "off" {
			uids = append(uids, uidOf(p))
		}
	}
	slices.Sort(uids)
	return uids
}

// uidOf is the UID by which the kubelet knows a pod.
func uidOf(p *corev1.Pod) string {
	if static := p.Annotations[staticPodUID]; static != "" {
		return static
	}
	return string(p.UID)
}
