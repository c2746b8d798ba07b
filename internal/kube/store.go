package kube

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	discoveryinformers "k8s.io/client-go/informers/discovery/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Store keeps a Builder current from the API server.
type Store struct {
	// WithoutEndpoints leaves Services' endpoints out, which change with every pod. They
	// are followed from the moment when a pool gives the nodes' own addresses, or a Service
	// with externalTrafficPolicy Local has a share key: which nodes, or with whom it shares,
	// then depends on them. Set it before Run.
	WithoutEndpoints bool
	// Lean leaves out of Services what agents do not read, and their API objects, which
	// Service would return. It is for stores that hold every Service's endpoints on every
	// node. Set it before Run.
	Lean bool
	// Endpoints is for how many endpoints of all Services there is room; 0: for any number.
	// If there are more, a namespace has half of the room at most. Set it before Run.
	Endpoints int
	// WithoutNodeStates leaves out what agents say in the API. In a large cluster some
	// NodeState changes every second, and an agent that read them all would cost the API
	// server a thousand times that. Set it before Run.
	WithoutNodeStates bool
	// Roster is the namespace in which the controller may keep a roster of the Nodes. The
	// Store follows it in the place of the Nodes while it is kept. "": it follows the
	// Nodes. Set it before Run.
	Roster string
	// Log is told which of the two the Store follows. It may be nil. Set it before Run.
	Log *slog.Logger

	clients *Clients
	changed func()

	mu     sync.Mutex
	b      *Builder
	gone   tombs
	synced bool
	need   chan struct{} // closed once endpoints are needed; nil afterwards, and if they are followed anyway
	awaits bool          // the first full listing of endpoints
	resume *time.Timer   // calls changed when a Service that is held back may change
	heard  atomic.Int64  // when the API server last sent an object, in nanoseconds after start
}

// NewStore makes a Store that calls changed, which must not block, after every
// change of what Snapshot would return, once everything has been listed.
func NewStore(clients *Clients, changed func()) *Store {
	return &Store{clients: clients, changed: changed, b: NewBuilder()}
}

// Run follows the API server until ctx ends. It returns an error only if it
// could not start.
func (s *Store) Run(ctx context.Context) error {
	s.mu.Lock()
	s.b.lean, s.b.room.most = s.Lean, s.Endpoints
	need := make(chan struct{})
	if s.WithoutEndpoints {
		s.need = need
	}
	if !s.WithoutEndpoints {
		// Without endpoints, what this process wrote must be in the next Snapshot.
		s.b.Pace()
	}
	s.mu.Unlock()
	defer s.stopWaiting()
	core := informers.NewSharedInformerFactory(s.clients.Kube, 0)
	all := []cache.SharedIndexInformer{
		coreinformers.NewServiceInformer(s.clients.Kube, metav1.NamespaceAll, 0, cache.Indexers{}),
		core.Core().V1().Namespaces().Informer(),
		informer(s.clients.Pools.List, s.clients.Pools.Watch, &v1alpha1.AddressPool{}),
		informer(s.clients.Addresses.List, s.clients.Addresses.Watch, &v1alpha1.Address{}),
		informer(s.clients.Announcements.List, s.clients.Announcements.Watch, &v1alpha1.Announcement{}),
		informer(s.clients.BGPPeers.List, s.clients.BGPPeers.Watch, &v1alpha1.BGPPeer{}),
	}
	if !s.WithoutEndpoints {
		all = append(all, s.slices())
	}
	if !s.WithoutNodeStates {
		all = append(all, informer(s.clients.NodeStates.List, s.clients.NodeStates.Watch, &v1alpha1.NodeState{}))
	}
	if s.servesServiceCIDRs(ctx) {
		all = append(all, core.Networking().V1().ServiceCIDRs().Informer())
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	var registered []cache.InformerSynced
	if s.Roster == "" {
		all = append(all, core.Core().V1().Nodes().Informer())
	} else {
		nodes := newNodeSource(s, s.Roster)
		registered = append(registered, nodes.synced)
		wg.Go(func() { nodes.Run(ctx) })
	}
	for _, inf := range all {
		hasSynced, err := s.handle(inf)
		if err != nil {
			return err
		}
		registered = append(registered, hasSynced)
		wg.Go(func() { inf.Run(ctx.Done()) })
	}
	wg.Go(func() { s.followEndpoints(ctx, need) })
	if cache.WaitForCacheSync(ctx.Done(), registered...) {
		s.mu.Lock()
		s.synced = true
		s.mu.Unlock()
		s.changed()
	}
	<-ctx.Done()
	return nil
}

// handle has what inf learns taken in.
func (s *Store) handle(inf cache.SharedIndexInformer) (cache.InformerSynced, error) {
	if err := inf.SetTransform(s.transform); err != nil {
		return nil, fmt.Errorf("informer: %w", err)
	}
	reg, err := inf.AddEventHandler(s)
	if err != nil {
		return nil, fmt.Errorf("informer: %w", err)
	}
	return reg.HasSynced, nil
}

// endpointsWithin is how long decisions wait for the first listing of endpoints. After
// that they are made without: Services must not wait for a right that is missing.
const endpointsWithin = 10 * time.Second

// followEndpoints follows the EndpointSlices once need is closed, until ctx ends.
func (s *Store) followEndpoints(ctx context.Context, need <-chan struct{}) {
	select {
	case <-ctx.Done():
		return
	case <-need:
	}
	inf := s.slices()
	hasSynced, err := s.handle(inf)
	if err != nil {
		return // a new informer takes both
	}
	go func() {
		within, cancel := context.WithTimeout(ctx, endpointsWithin)
		defer cancel()
		cache.WaitForCacheSync(within.Done(), hasSynced)
		s.mu.Lock()
		s.awaits = false
		s.mu.Unlock()
		s.changed()
	}()
	inf.Run(ctx.Done())
}

// slices follows the EndpointSlices of Services that have an address. The API server
// leaves those of headless Services out: a Builder would ignore them.
func (s *Store) slices() cache.SharedIndexInformer {
	served := func(o *metav1.ListOptions) { o.LabelSelector = "!" + corev1.IsHeadlessService }
	return discoveryinformers.NewFilteredEndpointSliceInformer(s.clients.Kube, metav1.NamespaceAll, 0, cache.Indexers{}, served)
}

// servesServiceCIDRs reports whether the API server has the kind ServiceCIDR, which is there
// from Kubernetes 1.33 on. It asks until there is an answer.
func (s *Store) servesServiceCIDRs(ctx context.Context) (served bool) {
	_ = wait.PollUntilContextCancel(ctx, time.Second, true, func(context.Context) (bool, error) {
		list, err := s.clients.Kube.Discovery().ServerResourcesForGroupVersion(networkingv1.SchemeGroupVersion.String())
		if err != nil {
			return false, nil //nolint:nilerr // asked again; the informers report what is wrong
		}
		served = slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Kind == "ServiceCIDR" })
		return true, nil
	})
	return served
}

// Synced reports whether everything has been listed once.
func (s *Store) Synced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.synced
}

// Snapshot returns the current Snapshot, or nil before the first full listing, also of
// endpoints that are needed.
func (s *Store) Snapshot() *snapshot.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.synced || s.awaits {
		return nil
	}
	return s.build()
}

// build returns the current Snapshot. If a Service is held back, changed is called once
// it may change. s.mu is held.
func (s *Store) build() *snapshot.Snapshot {
	out := s.b.Snapshot()
	if s.resume != nil {
		s.resume.Stop()
		s.resume = nil
	}
	if at := s.b.Resume(); !at.IsZero() {
		s.resume = time.AfterFunc(time.Until(at), s.changed)
	}
	return out
}

// stopWaiting ends what build began.
func (s *Store) stopWaiting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resume != nil {
		s.resume.Stop()
	}
}

// Latest is Snapshot, with the Triggers of the changes that it is the first to
// hold.
func (s *Store) Latest() (*snapshot.Snapshot, []time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.synced || s.awaits {
		return nil, nil
	}
	return s.build(), s.b.Triggers()
}

// Service returns the API object of one Service, or nil. It must not be changed.
func (s *Store) Service(ref snapshot.Ref) *corev1.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Service(ref)
}

// Nodes returns all Nodes, sorted by name, nil before the first full listing. It returns
// the same list as long as none of them changes.
func (s *Store) Nodes() []*snapshot.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.synced {
		return nil
	}
	return s.b.nodes.values()
}

// replaceNodes takes all Nodes in, in the place of those that it has.
func (s *Store) replaceNodes(all []*item[snapshot.Node]) {
	s.applyChange(func(any) bool { return s.b.nodes.replace(all) }, nil)
}

// Written takes in what the API server returned for a write of ours, so that
// the next Snapshot does not lag behind it. An object whose end is known already
// stays away: nothing would take it out again.
func (s *Store) Written(obj runtime.Object) {
	s.applyChange(func(obj any) bool { return !s.gone.has(objectUID(obj)) && s.b.Set(obj) }, obj)
}

// Removed takes out what the API server deleted for us.
func (s *Store) Removed(obj runtime.Object) { s.applyChange(s.b.Delete, obj) }

// OnAdd is called by the informers.
func (s *Store) OnAdd(obj any, _ bool) {
	s.applyChange(s.b.Set, obj)
}

// OnUpdate is called by the informers. A version that does not follow the one that the
// informer itself had can only come from a new list. Then it counts whatever is held:
// etcd may have been restored from a backup, and its numbers with it.
func (s *Store) OnUpdate(was, obj any) {
	if listed(was, obj) {
		s.applyChange(s.b.Reset, obj)
		return
	}
	s.applyChange(s.b.Set, obj)
}

// listed reports whether the informer that had was got obj from a list.
func listed(was, obj any) bool {
	a, okA := was.(metav1.Object)
	b, okB := obj.(metav1.Object)
	return okA && okB && !older(a, b)
}

// OnDelete is called by the informers.
func (s *Store) OnDelete(obj any) {
	remove := s.b.Delete
	if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		// A new list does not have the name, so what a write of ours has brought
		// since under the same name is gone too.
		obj, remove = unknown.Obj, s.b.Remove
	}
	s.applyChange(func(obj any) bool {
		s.gone.add(objectUID(obj))
		return remove(obj)
	}, obj)
}

func objectUID(obj any) types.UID {
	if o, ok := obj.(metav1.Object); ok {
		return o.GetUID()
	}
	return ""
}

// tombs remembers the UIDs of the last objects that ended, a few thousand.
type tombs struct{ now, before map[types.UID]bool }

const tombsMax = 4096

func (t *tombs) add(uid types.UID) {
	if len(t.now) >= tombsMax || t.now == nil {
		t.before, t.now = t.now, map[types.UID]bool{}
	}
	t.now[uid] = true
}

func (t *tombs) has(uid types.UID) bool { return uid != "" && (t.now[uid] || t.before[uid]) }

func (s *Store) applyChange(op func(any) bool, obj any) {
	s.mu.Lock()
	differs := op(obj) && s.synced
	if s.need != nil && needsEndpoints(obj) {
		close(s.need)
		s.need, s.awaits = nil, true
	}
	s.mu.Unlock()
	if differs {
		s.changed()
	}
}

// needsEndpoints reports whether decisions about obj depend on endpoints.
func needsEndpoints(obj any) bool {
	switch o := obj.(type) {
	case *item[snapshot.Pool]:
		return o.value.Nodes != nil
	case *service:
		return o.value.Type == snapshot.LoadBalancer && o.value.ExternalTrafficPolicy == snapshot.PolicyLocal && allocator.Shares(o.value)
	}
	return false
}

func informer[L runtime.Object](
	list func(context.Context, metav1.ListOptions) (L, error),
	watchFor func(context.Context, metav1.ListOptions) (watch.Interface, error),
	example runtime.Object,
) cache.SharedIndexInformer {
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return list(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return watchFor(ctx, o)
		},
	}
	return cache.NewSharedIndexInformer(lw, example, 0, cache.Indexers{})
}

// start is when this process started. A time since then goes by the monotonic clock: a clock
// that is set is not the API server's silence.
var start = time.Now()

// Heard returns when the API server last sent an object, also while it lists; the zero time
// before.
func (s *Store) Heard() time.Time {
	since := s.heard.Load()
	if since == 0 {
		return time.Time{}
	}
	return start.Add(time.Duration(since))
}

// hear notes that the API server sends an object.
func (s *Store) hear() { s.heard.Store(int64(time.Since(start))) }

// transform saves memory: an informer holds what the Builder does.
func (s *Store) transform(obj any) (any, error) {
	s.hear()
	if o, ok := obj.(*corev1.Service); ok {
		o.SetManagedFields(nil) // the only API object that is held, and nobody reads them
	}
	return s.b.reduce(obj), nil
}
