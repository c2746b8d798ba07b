package kube

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/internal/snapshot"
)

const (
	// rosterWithin is how long a start waits for the roster. Without the right to read
	// it, nothing would ever come.
	rosterWithin = 5 * time.Second
	// rosterRecent is how old a head may be, by this machine's clock, that is trusted at
	// a start.
	rosterRecent = 3 * RosterEvery
	// rosterMisses is after how many looks in a row without a renewal nobody keeps the roster.
	// Each is RosterEvery after the one before, and up to twice that, so that a cluster's
	// agents do not list all Nodes together.
	rosterMisses = 3
)

// nodeSource follows the cluster's Nodes for a Store: by the roster while a controller
// keeps it, otherwise by the Nodes themselves. Only one of the two feeds the Store at any
// time.
type nodeSource struct {
	store     *Store
	client    kubernetes.Interface
	namespace string // of the roster
	log       *slog.Logger

	changed chan struct{} // the roster did
	started atomic.Bool   // the Store has been given all Nodes once

	mu       sync.Mutex
	parts    map[string]*rosterPart // by the names of their ConfigMaps
	renewals int                    // of the head, that were seen
	by       source
}

// source is what feeds the Store.
type source int

const (
	byNothing source = iota
	byRoster
	byNodes
)

func newNodeSource(s *Store, namespace string) *nodeSource {
	log := s.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &nodeSource{store: s, client: s.clients.Kube, namespace: namespace, log: log, changed: make(chan struct{}, 1), parts: map[string]*rosterPart{}}
}

// synced reports whether the Store has been given all Nodes once.
func (n *nodeSource) synced() bool { return n.started.Load() }

// Run follows the Nodes until ctx ends.
func (n *nodeSource) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	of := func(o *metav1.ListOptions) { o.LabelSelector = RosterLabel }
	roster := coreinformers.NewFilteredConfigMapInformer(n.client, n.namespace, 0, cache.Indexers{}, of)
	reg, err := n.follow(roster, n.readPart, cache.ResourceEventHandlerDetailedFuncs{
		AddFunc:    func(obj any, first bool) { n.takePart(obj, !first) },
		UpdateFunc: func(_, obj any) { n.takePart(obj, true) },
		DeleteFunc: n.dropPart,
	})
	if err == nil { // it is that of an informer that ran before
		wg.Go(func() { roster.Run(ctx.Done()) })
		wait, cancel := context.WithTimeout(ctx, rosterWithin)
		cache.WaitForCacheSync(wait.Done(), reg.HasSynced)
		cancel()
	}
	if n.recent(time.Now()) {
		n.readRoster(ctx)
	}
	for ctx.Err() == nil {
		n.log.Info("following the Nodes themselves: no controller keeps a roster of them")
		n.readNodes(ctx)
		if ctx.Err() == nil {
			n.readRoster(ctx)
		}
	}
}

// follow has handler told what inf says, once inf runs.
func (n *nodeSource) follow(inf cache.SharedIndexInformer, transform cache.TransformFunc, handler cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	if err := inf.SetTransform(transform); err != nil {
		return nil, err
	}
	return inf.AddEventHandler(handler)
}

// readPart saves memory: the informer holds what is read of a ConfigMap.
func (n *nodeSource) readPart(obj any) (any, error) {
	n.store.hear()
	if cm, ok := obj.(*corev1.ConfigMap); ok {
		return itemOf(cm, toRosterPart(cm)), nil
	}
	return obj, nil
}

// takePart takes in a part of the roster. A head that is new, and not just the one that
// was there at the start, shows that a controller keeps the roster.
func (n *nodeSource) takePart(obj any, isNew bool) {
	part, ok := obj.(*item[rosterPart])
	if !ok {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	was := n.parts[part.ref.Name]
	n.parts[part.ref.Name] = part.value
	if h := part.value.head; h != nil && isNew && (was == nil || !was.head.renewed.Equal(h.renewed)) {
		n.renewals++
	}
	n.tell()
	n.give()
}

func (n *nodeSource) dropPart(obj any) {
	if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = unknown.Obj
	}
	if part, ok := obj.(*item[rosterPart]); ok {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.parts, part.ref.Name)
		n.tell()
		n.give()
	}
}

// tell has those who wait look at the roster.
func (n *nodeSource) tell() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// head returns what the head of the roster says, nil if there is none. n.mu is held.
func (n *nodeSource) head() *rosterHead {
	if p := n.parts[RosterHead]; p != nil {
		return p.head
	}
	return nil
}

// whole reports whether the parts have as many Nodes as the head says. While they do not,
// the controller is about to write the rest. n.mu is held.
func (n *nodeSource) whole() bool {
	h, count := n.head(), 0
	for _, p := range n.parts {
		count += len(p.nodes)
	}
	return h != nil && h.nodes == count
}

// give gives the Store the roster, if that is what it is fed by. n.mu is held.
func (n *nodeSource) give() {
	if n.by != byRoster || !n.whole() {
		return
	}
	var all []*item[snapshot.Node]
	for _, p := range n.parts {
		for _, node := range p.nodes {
			all = append(all, &item[snapshot.Node]{identity: identity{ref: snapshot.Ref{Name: node.Name}, uid: uidOf(node.UID)}, value: node})
		}
	}
	n.store.replaceNodes(all)
	n.started.Store(true)
}

// recent reports whether the roster is whole and was renewed a short time before now.
func (n *nodeSource) recent(now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.whole() && now.Sub(n.head().renewed).Abs() < rosterRecent
}

// seen returns how many renewals were seen, and whether the roster is whole and has a
// head.
func (n *nodeSource) seen() (renewals int, whole, head bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.renewals, n.whole(), n.head() != nil
}

// readRoster feeds the Store by the roster, which is whole. It returns when nobody keeps
// the roster: its head was deleted, or was not renewed while the API server answered.
func (n *nodeSource) readRoster(ctx context.Context) {
	n.mu.Lock()
	n.by = byRoster
	n.give()
	renewals, misses := n.renewals, 0
	n.mu.Unlock()
	n.log.Info("following the roster of the Nodes that the controller keeps")
	pause := func() time.Duration { return RosterEvery + rand.N(RosterEvery) }
	look := time.NewTimer(pause())
	defer look.Stop()
	for misses < rosterMisses {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			look.Reset(pause())
			now, whole, _ := n.seen()
			switch {
			case now != renewals && whole:
				renewals, misses = now, 0
			case n.answers(ctx):
				misses++
			default:
				misses = 0 // an API server that cannot keep up would have to list all Nodes too
			}
		case <-n.changed:
			if _, _, head := n.seen(); !head {
				return
			}
		}
	}
}

// answers reports whether the API server answers. While it does not, a controller cannot
// renew anything, and the Nodes cannot be listed either.
func (n *nodeSource) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_, err := n.client.CoreV1().ConfigMaps(n.namespace).Get(ctx, RosterHead, metav1.GetOptions{})
	return err == nil || apierrors.IsNotFound(err)
}

// readNodes feeds the Store by the Nodes themselves. It returns when somebody keeps a
// roster.
func (n *nodeSource) readNodes(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	nodes := informers.NewSharedInformerFactory(n.client, 0).Core().V1().Nodes().Informer()
	feeds := func(f func()) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.by == byNodes {
			f()
		}
	}
	reg, err := n.follow(nodes, n.store.transform, cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { feeds(func() { n.store.OnAdd(obj, false) }) },
		UpdateFunc: func(was, obj any) { feeds(func() { n.store.OnUpdate(was, obj) }) },
		DeleteFunc: func(obj any) { feeds(func() { n.store.OnDelete(obj) }) },
	})
	if err != nil {
		return // of an informer that ran before; this one did not
	}
	renewals, _, _ := n.seen()
	wg.Go(func() { nodes.Run(ctx.Done()) })
	wg.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), reg.HasSynced) {
			n.takeNodes(nodes.GetStore().List)
		}
	})
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.changed:
			if now, whole, _ := n.seen(); now != renewals && whole {
				return
			}
		}
	}
}

// takeNodes gives the Store all Nodes of list, and what changes from then on.
func (n *nodeSource) takeNodes(list func() []any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*item[snapshot.Node]
	for _, obj := range list() {
		if node, ok := obj.(*item[snapshot.Node]); ok {
			all = append(all, node)
		}
	}
	n.store.replaceNodes(all)
	n.by = byNodes
	n.started.Store(true)
}
