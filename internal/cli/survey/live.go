package survey

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/cli/cluster"
)

// Live keeps current what Read reads: it watches what may be watched, and reads the rest
// when Refresh is called. What the user may not read is a gap and no error.
type Live struct {
	client    dynamic.Interface
	now       func() time.Time
	podsIn    string
	informers map[string]cache.SharedIndexInformer // by resource

	mu      sync.Mutex
	changed chan struct{}     // closed at the next change
	gaps    map[string]string // by resource
	tried   map[string]bool   // resources that were read, or could not be
	slow    Objects           // what Refresh read once a minute
	slowAt  time.Time
	often   Objects // what it read each time: the Lease and the history
}

// NewLive returns a Live that reads nothing yet. now is the API server's clock. podsIn is
// the namespace of fairlead's pods, for who may list those of no other; "" looks in all.
func NewLive(client dynamic.Interface, now func() time.Time, podsIn string) *Live {
	l := &Live{client: client, now: now, podsIn: podsIn, informers: map[string]cache.SharedIndexInformer{}, changed: make(chan struct{}), gaps: map[string]string{}, tried: map[string]bool{}}
	for _, s := range sources {
		if !s.polled {
			l.informers[s.Resource] = l.informer(s)
		}
	}
	return l
}

func (l *Live) informer(s source) cache.SharedIndexInformer {
	chosen := func(o *metav1.ListOptions) { o.LabelSelector = s.labels }
	namespace := metav1.NamespaceAll
	if s.GroupVersionResource == core("pods") {
		namespace = l.podsIn
	}
	inf := dynamicinformer.NewFilteredDynamicInformer(l.client, s.GroupVersionResource, namespace, 0, cache.Indexers{}, chosen).Informer()
	_ = inf.SetTransform(func(obj any) (any, error) {
		if u, ok := obj.(*unstructured.Unstructured); ok {
			return Typed(u)
		}
		return obj, nil
	})
	_ = inf.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) { l.failed(s, err) })
	_, _ = inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { l.read(s); l.notify() },
		DeleteFunc: func(any) { l.notify() },
		UpdateFunc: func(old, obj any) {
			l.read(s)
			if !renewal(old, obj) {
				l.notify()
			}
		},
	})
	return inf
}

// renewal reports whether obj differs from old by the signs of life alone that nodes
// write all the time.
func renewal(old, obj any) bool {
	switch a := old.(type) {
	case *v1alpha1.NodeState:
		b, ok := obj.(*v1alpha1.NodeState)
		if !ok {
			return false
		}
		was, is := a.Status, b.Status
		was.RenewTime, is.RenewTime = nil, nil
		return equality.Semantic.DeepEqual(was, is)
	case *corev1.Node:
		b, ok := obj.(*corev1.Node)
		return ok && equality.Semantic.DeepEqual(a.Labels, b.Labels) && equality.Semantic.DeepEqual(a.Spec, b.Spec) && equality.Semantic.DeepEqual(beatless(a), beatless(b))
	}
	return false
}

func beatless(n *corev1.Node) corev1.NodeStatus {
	s := *n.Status.DeepCopy()
	s.Images = nil
	for i := range s.Conditions {
		s.Conditions[i].LastHeartbeatTime = metav1.Time{}
	}
	return s
}

// failed notes why a kind cannot be read. Its informer tries again.
func (l *Live) failed(s source, err error) {
	l.mu.Lock()
	was := l.gaps[s.Resource]
	l.tried[s.Resource] = true
	switch {
	case s.absent && apierrors.IsNotFound(err):
	case s.Group == v1alpha1.GroupVersion.Group && apierrors.IsNotFound(err):
		l.gaps[s.Resource] = ErrNotInstalled.Error()
	case apierrors.IsForbidden(err):
		l.gaps[s.Resource] = fmt.Sprintf("%s: %v", unlisted(s.Resource), err)
	case apierrors.IsResourceExpired(err), errors.Is(err, context.Canceled):
	default:
		l.gaps[s.Resource] = err.Error()
	}
	now := l.gaps[s.Resource]
	l.mu.Unlock()
	if was != now {
		l.notify()
	}
}

// read notes that a kind can be read.
func (l *Live) read(s source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.gaps, s.Resource)
	l.tried[s.Resource] = true
}

func (l *Live) notify() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
}

// Changed returns a channel that is closed when something changes after the call. A sign
// of life of a node is not a change.
func (l *Live) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// Run watches until ctx ends.
func (l *Live) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, inf := range l.informers {
		wg.Go(func() { inf.RunWithContext(ctx) })
	}
	wg.Wait()
}

// Started waits until every kind was read once, or could not be.
func (l *Live) Started(ctx context.Context) error {
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		if l.complete() {
			tick.Stop()
			l.Refresh(ctx)
			return nil
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (l *Live) complete() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for resource, inf := range l.informers {
		if !inf.HasSynced() && !l.tried[resource] {
			return false
		}
	}
	return true
}

// slowly is how old what Refresh does not read each time may become.
const slowly = time.Minute

// Refresh reads what is not watched. It is cheap to call often.
func (l *Live) Refresh(ctx context.Context) {
	base := l.watched()
	often := Objects{All: base}
	often.lease(ctx, l.client)
	often.ReadHistory(ctx, l.client)
	often.All = often.All[len(base):]
	l.mu.Lock()
	l.often = often
	due := time.Since(l.slowAt) > slowly
	l.mu.Unlock()
	if !due {
		return
	}
	var slow Objects
	slow.kubeProxy(ctx, l.client)
	for _, s := range sources {
		if s.polled {
			if err := slow.list(ctx, l.client, s); err != nil {
				slow.gap(s.Resource, err)
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slow, l.slowAt = slow, time.Now()
}

func (l *Live) watched() (all []runtime.Object) {
	for _, s := range sources {
		inf := l.informers[s.Resource]
		if inf == nil {
			continue
		}
		keys := inf.GetStore().ListKeys()
		slices.Sort(keys)
		for _, k := range keys {
			if obj, ok, _ := inf.GetStore().GetByKey(k); ok {
				if o, ok := obj.(runtime.Object); ok {
					all = append(all, o)
				}
			}
		}
	}
	return all
}

// Objects returns what is known now. The objects are shared: they are not to be changed.
func (l *Live) Objects() *Objects {
	o := &Objects{All: l.watched(), Now: l.now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	o.All = slices.Concat(o.All, l.slow.All, l.often.All)
	for _, what := range slices.Sorted(maps.Keys(l.gaps)) {
		o.Gaps = append(o.Gaps, cluster.Gap{What: what, Why: l.gaps[what]})
	}
	o.Gaps = append(append(o.Gaps, l.slow.Gaps...), l.often.Gaps...)
	return o
}
