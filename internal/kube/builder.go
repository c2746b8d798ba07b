package kube

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Builder collects API objects and builds Snapshots of them. It keeps the
// values of objects that did not change, so that successive Snapshots share
// them. It is not safe for concurrent use.
type Builder struct {
	services      map[snapshot.Ref]*corev1.Service
	slices        map[snapshot.Ref]map[string]*discoveryv1.EndpointSlice // by Service, then name
	owners        map[snapshot.Ref]snapshot.Ref                          // the Service of every slice that is held
	built         map[snapshot.Ref]*snapshot.Service
	sorted        []*snapshot.Service // built, as of the last Snapshot
	dirty         map[snapshot.Ref]bool
	pending       map[snapshot.Ref][]time.Time // triggers of slices that no Service was rebuilt of yet
	triggers      []time.Time                  // of Services whose value changed; not asked for yet
	nodes         kind[snapshot.Node]
	namespaces    kind[snapshot.Namespace]
	pools         kind[snapshot.Pool]
	addresses     kind[snapshot.Address]
	announcements kind[snapshot.Announcement]
	nodeStates    kind[snapshot.NodeState]
	serviceCIDRs  kind[snapshot.ServiceCIDR]
	bgpPeers      kind[snapshot.BGPPeer]
	reset         bool // versions and UIDs do not count: see Reset, Remove
	pace          *pacer
}

// NewBuilder makes an empty Builder.
func NewBuilder() *Builder {
	return &Builder{
		services: map[snapshot.Ref]*corev1.Service{},
		slices:   map[snapshot.Ref]map[string]*discoveryv1.EndpointSlice{}, owners: map[snapshot.Ref]snapshot.Ref{},
		built: map[snapshot.Ref]*snapshot.Service{}, dirty: map[snapshot.Ref]bool{}, pending: map[snapshot.Ref][]time.Time{},
		nodes: newKind[snapshot.Node](), namespaces: newKind[snapshot.Namespace](), pools: newKind[snapshot.Pool](),
		addresses: newKind[snapshot.Address](), announcements: newKind[snapshot.Announcement](), nodeStates: newKind[snapshot.NodeState](),
		serviceCIDRs: newKind[snapshot.ServiceCIDR](), bgpPeers: newKind[snapshot.BGPPeer](),
	}
}

// Reset takes obj in as it is, even if a newer version is held.
func (b *Builder) Reset(obj any) bool {
	b.reset = true
	defer func() { b.reset = false }()
	return b.Set(obj)
}

// Remove takes out the object that has the name of obj, whichever it is.
func (b *Builder) Remove(obj any) bool {
	b.reset = true
	defer func() { b.reset = false }()
	return b.Delete(obj)
}

// another reports whether obj is not the object old, but one of its name.
func (b *Builder) another(obj, old metav1.Object) bool {
	return !b.reset && old.GetUID() != obj.GetUID()
}

// outdated reports whether obj is an older version of the object old.
func (b *Builder) outdated(obj, old metav1.Object) bool {
	return !b.reset && old.GetUID() == obj.GetUID() && older(obj, old)
}

// Set takes obj in, or its newer version, and tells whether the next Snapshot
// may differ. A version older than the one that is held is passed over. Kinds
// that no Snapshot holds are ignored.
func (b *Builder) Set(obj any) bool {
	switch o := obj.(type) {
	case *corev1.Service:
		ref := refOf(o)
		if old, ok := b.services[ref]; ok && b.outdated(o, old) {
			return false
		}
		b.services[ref] = o
		b.dirty[ref] = true
		return true
	case *discoveryv1.EndpointSlice:
		return b.setSlice(o)
	case *corev1.Node:
		return b.nodes.set(b, o, toNode(o))
	case *corev1.Namespace:
		return b.namespaces.set(b, o, toNamespace(o))
	case *networkingv1.ServiceCIDR:
		return b.serviceCIDRs.set(b, o, toServiceCIDR(o))
	case *v1alpha1.AddressPool:
		return b.pools.set(b, o, toPool(o))
	case *v1alpha1.Announcement:
		return b.announcements.set(b, o, toAnnouncement(o))
	case *v1alpha1.NodeState:
		return b.nodeStates.set(b, o, decisive(ToNodeState(o)))
	case *v1alpha1.BGPPeer:
		return b.bgpPeers.set(b, o, toBGPPeer(o))
	case *v1alpha1.Address:
		if a := toAddress(o); a != nil {
			return b.addresses.set(b, o, a)
		}
	}
	return false
}

// Delete takes obj out and tells whether the next Snapshot may differ. It leaves
// another object of the same name, which was made after it, alone.
func (b *Builder) Delete(obj any) bool {
	switch o := obj.(type) {
	case *corev1.Service:
		old, ok := b.services[refOf(o)]
		if !ok || b.another(o, old) {
			return false
		}
		delete(b.services, refOf(o))
		b.dirty[refOf(o)] = true
		return true
	case *discoveryv1.EndpointSlice:
		old := b.slice(o)
		if old == nil || b.another(o, old) {
			return false
		}
		b.dropSlice(refOf(o))
		return true
	case *corev1.Node:
		return b.nodes.remove(b, o)
	case *corev1.Namespace:
		return b.namespaces.remove(b, o)
	case *networkingv1.ServiceCIDR:
		return b.serviceCIDRs.remove(b, o)
	case *v1alpha1.AddressPool:
		return b.pools.remove(b, o)
	case *v1alpha1.Announcement:
		return b.announcements.remove(b, o)
	case *v1alpha1.NodeState:
		return b.nodeStates.remove(b, o)
	case *v1alpha1.BGPPeer:
		return b.bgpPeers.remove(b, o)
	case *v1alpha1.Address:
		return b.addresses.remove(b, o)
	}
	return false
}

// Service returns the API object of one Service, or nil. It must not be changed.
func (b *Builder) Service(ref snapshot.Ref) *corev1.Service { return b.services[ref] }

// Snapshot builds the current Snapshot. It shares the lists of kinds of which
// nothing changed with the last one.
func (b *Builder) Snapshot() *snapshot.Snapshot {
	b.rebuildDirty()
	return &snapshot.Snapshot{
		Services: b.sorted, Nodes: b.nodes.values(), Namespaces: b.namespaces.values(), Pools: b.pools.values(),
		Addresses:     b.addresses.sortedBy(func(x, y *snapshot.Address) int { return x.Addr.Compare(y.Addr) }),
		Announcements: b.announcements.values(), NodeStates: b.nodeStates.values(), ServiceCIDRs: b.serviceCIDRs.values(),
		BGPPeers: b.bgpPeers.values(),
	}
}

// Pace holds large Services back that change all the time, so that the changes of
// others are not behind theirs. Snapshot then has them as they were before.
func (b *Builder) Pace() { b.pace = newPacer(time.Now) }

// Resume returns when the first Service that the last Snapshot held back may change:
// see pace. It is zero if none was held back.
func (b *Builder) Resume() time.Time {
	if b.pace == nil {
		return time.Time{}
	}
	return b.pace.resume
}

// rebuildDirty brings built and sorted up to date.
func (b *Builder) rebuildDirty() {
	if b.pace != nil {
		b.pace.resume = time.Time{}
	}
	if len(b.dirty) == 0 {
		return
	}
	byRef := func(x, y *snapshot.Service) int { return x.Ref.Compare(y.Ref) }
	var gone, come []*snapshot.Service
	for _, ref := range slices.SortedFunc(maps.Keys(b.dirty), snapshot.Ref.Compare) {
		was := b.built[ref]
		// One that was made again under its name is not the one that is held back.
		if obj := b.services[ref]; obj != nil && was != nil && string(obj.UID) == was.UID && b.pace.holds(ref) {
			continue
		}
		b.rebuild(ref)
		b.pace.took(ref, b.built[ref])
		delete(b.dirty, ref)
		delete(b.pending, ref)
		if now := b.built[ref]; now != was {
			gone, come = appendIf(gone, was), appendIf(come, now)
		}
	}
	b.sorted = diff.Apply(b.sorted, gone, come, byRef)
}

func appendIf(list []*snapshot.Service, s *snapshot.Service) []*snapshot.Service {
	if s == nil {
		return list
	}
	return append(list, s)
}

func (b *Builder) rebuild(ref snapshot.Ref) {
	obj := b.services[ref]
	if obj == nil {
		delete(b.built, ref)
		return
	}
	parts := make([]*discoveryv1.EndpointSlice, 0, len(b.slices[ref]))
	for _, sl := range b.slices[ref] {
		parts = append(parts, sl)
	}
	svc := toService(obj, parts)
	if old := b.built[ref]; old == nil || !sameService(old, svc) {
		b.built[ref] = svc
		b.triggers = append(b.triggers, b.pending[ref]...)
		b.triggers = b.triggers[max(0, len(b.triggers)-mostTriggers):]
	}
}

// sameService reports whether two Services are equal. The endpoints are most of a
// Service, and reflection over them takes longer than to make them.
func sameService(a, b *snapshot.Service) bool {
	if !slices.EqualFunc(a.Endpoints, b.Endpoints, sameEndpoint) {
		return false
	}
	x, y := *a, *b
	x.Endpoints, y.Endpoints = nil, nil
	return reflect.DeepEqual(x, y)
}

func sameEndpoint(a, b snapshot.Endpoint) bool {
	return a.PortName == b.PortName && a.Protocol == b.Protocol && a.Addr == b.Addr && a.Node == b.Node && a.Zone == b.Zone &&
		a.Ready == b.Ready && a.Serving == b.Serving && a.Terminating == b.Terminating &&
		slices.Equal(a.ZoneHints, b.ZoneHints) && slices.Equal(a.NodeHints, b.NodeHints)
}

// setSlice takes a slice in, or out of its Service's endpoints if its labels say
// that it is of none (any more) or of a headless one.
func (b *Builder) setSlice(sl *discoveryv1.EndpointSlice) bool {
	old := b.slice(sl)
	if old != nil && b.outdated(sl, old) {
		return false
	}
	if old != nil {
		b.dropSlice(refOf(sl))
	}
	ref := owner(sl)
	if _, headless := sl.Labels[corev1.IsHeadlessService]; headless || ref.Name == "" {
		return old != nil
	}
	if b.slices[ref] == nil {
		b.slices[ref] = map[string]*discoveryv1.EndpointSlice{}
	}
	b.slices[ref][sl.Name], b.owners[refOf(sl)] = sl, ref
	b.dirty[ref] = true
	if at := trigger(sl); !at.IsZero() {
		b.pending[ref] = append(b.pending[ref], at)
	}
	return true
}

// slice returns the version of sl that is held, or nil.
func (b *Builder) slice(sl *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	return b.slices[b.owners[refOf(sl)]][sl.Name]
}

func (b *Builder) dropSlice(name snapshot.Ref) {
	ref := b.owners[name]
	delete(b.owners, name)
	delete(b.slices[ref], name.Name)
	if len(b.slices[ref]) == 0 {
		delete(b.slices, ref)
	}
	b.dirty[ref] = true
}

// kind holds the values of one cluster-scoped kind by name.
type kind[T any] struct {
	byName map[string]object[T]
	list   []*T // the values, sorted; nil if they changed
}

func newKind[T any]() kind[T] { return kind[T]{byName: map[string]object[T]{}} }

type object[T any] struct {
	obj   metav1.Object
	value *T
}

func (k *kind[T]) set(b *Builder, obj metav1.Object, value *T) bool {
	old, ok := k.byName[obj.GetName()]
	if ok && b.outdated(obj, old.obj) {
		return false
	}
	same := ok && reflect.DeepEqual(old.value, value)
	if same {
		value = old.value
	} else {
		k.list = nil
	}
	k.byName[obj.GetName()] = object[T]{obj: obj, value: value}
	return !same
}

func (k *kind[T]) remove(b *Builder, obj metav1.Object) bool {
	old, ok := k.byName[obj.GetName()]
	if !ok || b.another(obj, old.obj) {
		return false
	}
	delete(k.byName, obj.GetName())
	k.list = nil
	return true
}

// values returns the values, sorted by name.
func (k *kind[T]) values() []*T {
	if k.list == nil {
		k.list = make([]*T, 0, len(k.byName))
		for _, name := range slices.Sorted(maps.Keys(k.byName)) {
			k.list = append(k.list, k.byName[name].value)
		}
	}
	return k.list
}

// sortedBy returns the values in another order, always the same for one kind.
func (k *kind[T]) sortedBy(compare func(a, b *T) int) []*T {
	if k.list == nil {
		slices.SortFunc(k.values(), compare)
	}
	return k.list
}

// older tells whether a is an earlier version of an object than b. Resource
// versions of one object can be compared as numbers (KEP-5504).
func older(a, b metav1.Object) bool {
	x, errX := strconv.ParseUint(a.GetResourceVersion(), 10, 64)
	y, errY := strconv.ParseUint(b.GetResourceVersion(), 10, 64)
	return errX == nil && errY == nil && x < y
}

func refOf(o metav1.Object) snapshot.Ref {
	return snapshot.Ref{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// owner is the Service that a slice belongs to; its Name is "" if none.
func owner(sl *discoveryv1.EndpointSlice) snapshot.Ref {
	return snapshot.Ref{Namespace: sl.Namespace, Name: sl.Labels[discoveryv1.LabelServiceName]}
}
