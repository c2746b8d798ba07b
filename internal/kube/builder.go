package kube

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Builder collects API objects and builds Snapshots of them. It keeps the
// values of objects that did not change, so that successive Snapshots share
// them. It is not safe for concurrent use.
type Builder struct {
	lean          bool // see Store.Lean
	services      map[snapshot.Ref]*entry
	parts         map[snapshot.Ref]*part // by the names of their slices, of those that belong to a Service
	sorted        []*snapshot.Service    // as of the last Snapshot
	last          *snapshot.Snapshot     // nil before the first
	dirty         []*entry
	pending       map[snapshot.Ref][]time.Time // triggers of slices that no Service was rebuilt of yet
	triggers      []time.Time                  // of Services whose value changed; not asked for yet
	nodes         kind[snapshot.Node]
	namespaces    kind[snapshot.Namespace]
	pools         kind[snapshot.Pool]
	addresses     kind[snapshot.Address]
	records       records // what addresses holds
	announcements kind[snapshot.Announcement]
	nodeStates    kind[snapshot.NodeState]
	serviceCIDRs  kind[snapshot.ServiceCIDR]
	bgpPeers      kind[snapshot.BGPPeer]
	reset         bool // versions and UIDs do not count: see Reset, Remove
	pace          *pacer
	room          room
}

// entry is a Service and the slices that belong to one of its name.
type entry struct {
	ref     snapshot.Ref
	service *service // nil if only slices name it
	parts   []*part
	built   *snapshot.Service // as of the last Snapshot
	dirty   bool              // it is in the Builder's list
	weighed int               // what the room has counted of it
	beyond  bool              // it is more than the share of its namespace
}

// NewBuilder makes an empty Builder.
func NewBuilder() *Builder {
	return &Builder{
		services: map[snapshot.Ref]*entry{}, parts: map[snapshot.Ref]*part{}, pending: map[snapshot.Ref][]time.Time{},
		nodes: newKind[snapshot.Node](), namespaces: newKind[snapshot.Namespace](), pools: newKind[snapshot.Pool](),
		addresses: newKind[snapshot.Address](), announcements: newKind[snapshot.Announcement](), nodeStates: newKind[snapshot.NodeState](),
		serviceCIDRs: newKind[snapshot.ServiceCIDR](), bgpPeers: newKind[snapshot.BGPPeer](),
		room: room{taken: map[string]int{}, cut: map[string]bool{}},
	}
}

// Reset takes obj in as it is, even if a newer version is held. It reports what Set does.
func (b *Builder) Reset(obj any) bool {
	b.reset = true
	defer func() { b.reset = false }()
	return b.Set(obj)
}

// Remove takes out the object that has the name of obj, whichever it is. It reports what
// Delete does.
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

// Set takes obj in, or its newer version, and reports whether the next Snapshot
// may differ. A version older than the one that is held is passed over. Kinds
// that no Snapshot holds are ignored.
func (b *Builder) Set(obj any) bool {
	switch o := b.reduce(obj).(type) {
	case *service:
		e := b.entry(o.ref)
		if e.service != nil && b.outdated(o, e.service) {
			return false
		}
		e.service = o
		b.touch(e)
		return true
	case *part:
		return b.setPart(o)
	case *item[snapshot.Node]:
		return b.nodes.set(b, o)
	case *item[snapshot.Namespace]:
		return b.namespaces.set(b, o)
	case *item[snapshot.ServiceCIDR]:
		return b.serviceCIDRs.set(b, o)
	case *item[snapshot.Pool]:
		return b.pools.set(b, o)
	case *item[snapshot.Announcement]:
		return b.announcements.set(b, o)
	case *item[snapshot.NodeState]:
		return b.nodeStates.set(b, o)
	case *item[snapshot.BGPPeer]:
		return b.bgpPeers.set(b, o)
	case *item[snapshot.Address]:
		return o.value != nil && b.addresses.set(b, o)
	}
	return false
}

// Delete takes obj out and reports whether the next Snapshot may differ. It leaves
// another object of the same name, which was made after it, alone.
func (b *Builder) Delete(obj any) bool {
	switch o := b.reduce(obj).(type) {
	case *service:
		e := b.services[o.ref]
		if e == nil || e.service == nil || b.another(o, e.service) {
			return false
		}
		e.service = nil
		b.touch(e)
		return true
	case *part:
		old := b.parts[o.ref]
		if old == nil || b.another(o, old) {
			return false
		}
		b.dropPart(old)
		return true
	case *item[snapshot.Node]:
		return b.nodes.remove(b, o)
	case *item[snapshot.Namespace]:
		return b.namespaces.remove(b, o)
	case *item[snapshot.ServiceCIDR]:
		return b.serviceCIDRs.remove(b, o)
	case *item[snapshot.Pool]:
		return b.pools.remove(b, o)
	case *item[snapshot.Announcement]:
		return b.announcements.remove(b, o)
	case *item[snapshot.NodeState]:
		return b.nodeStates.remove(b, o)
	case *item[snapshot.BGPPeer]:
		return b.bgpPeers.remove(b, o)
	case *item[snapshot.Address]:
		return b.addresses.remove(b, o)
	}
	return false
}

// Service returns the API object of one Service, or nil. It must not be changed.
func (b *Builder) Service(ref snapshot.Ref) *corev1.Service {
	if e := b.services[ref]; e != nil && e.service != nil {
		return e.service.obj
	}
	return nil
}

// entry returns the entry of ref, and makes it if needed.
func (b *Builder) entry(ref snapshot.Ref) *entry {
	e := b.services[ref]
	if e == nil {
		e = &entry{ref: ref}
		b.services[ref] = e
	}
	return e
}

// touch has e rebuilt for the next Snapshot.
func (b *Builder) touch(e *entry) {
	if !e.dirty {
		e.dirty, b.dirty = true, append(b.dirty, e)
	}
}

// Snapshot builds the current Snapshot. It shares the lists of kinds where
// nothing changed with the last one, and notes in it what changed.
func (b *Builder) Snapshot() *snapshot.Snapshot {
	changes := snapshot.Changes{Services: b.rebuildDirty()}
	all := b.addresses.sortedBy(func(x, y *snapshot.Address) int { return x.Addr.Compare(y.Addr) })
	b.records = b.records.of(all)
	s := &snapshot.Snapshot{
		Services: b.sorted, Nodes: b.nodes.values(), Namespaces: b.namespaces.values(), Pools: b.pools.values(),
		Addresses: b.records.ofPools, NodeAddresses: b.records.ofNodes,
		Announcements: b.announcements.values(), NodeStates: b.nodeStates.values(), ServiceCIDRs: b.serviceCIDRs.values(),
		BGPPeers: b.bgpPeers.values(),
	}
	if b.last != nil {
		changes.Addresses = snapshot.Diff(&snapshot.Snapshot{Addresses: b.last.Addresses}, &snapshot.Snapshot{Addresses: s.Addresses}).Addresses
	}
	s.Follows(b.last, changes)
	b.last = s
	return s
}

// records are the Address objects by what they record.
type records struct{ all, ofPools, ofNodes []*snapshot.Address }

// of returns the records of all, with the same lists as r if all is the same list.
// Decisions know by that what did not change.
func (r records) of(all []*snapshot.Address) records {
	if r.all != nil && diff.Same(r.all, all) {
		return r
	}
	out := records{all: all, ofPools: all}
	if !slices.ContainsFunc(all, ofNode) {
		return out
	}
	out.ofPools = slices.DeleteFunc(slices.Clone(all), ofNode)
	out.ofNodes = slices.DeleteFunc(slices.Clone(all), func(a *snapshot.Address) bool { return !ofNode(a) })
	return out
}

func ofNode(a *snapshot.Address) bool { return a.Node != "" }

// Pace holds large Services back that change all the time, and many Services of one
// namespace that change together, so that the changes of others are not behind theirs.
// Snapshot then has them as they were before.
func (b *Builder) Pace() { b.pace = newPacer(time.Now) }

// Resume returns when the first Service that the last Snapshot held back may change:
// see pace. It is zero if none was held back.
func (b *Builder) Resume() time.Time {
	if b.pace == nil {
		return time.Time{}
	}
	return b.pace.resume
}

// rebuildDirty brings the built Services and sorted up to date. It returns the Services
// that changed.
func (b *Builder) rebuildDirty() (changed []snapshot.Ref) {
	if b.pace != nil {
		b.pace.resume = time.Time{}
	}
	if len(b.dirty) == 0 {
		return nil
	}
	b.weigh()
	now, held := b.dirty, []*entry(nil)
	if b.pace != nil && b.last != nil { // the first Snapshot has everything
		if now, held = turn(b.dirty); len(held) > 0 {
			b.pace.resume = b.pace.now()
		}
	}
	slices.SortFunc(now, func(x, y *entry) int { return x.ref.Compare(y.ref) })
	var gone, come []*snapshot.Service
	for _, e := range now {
		was := e.built
		// One that was made again under its name is not the one that is held back.
		if e.service != nil && was != nil && e.service.value.UID == was.UID && b.pace.holds(e.ref) {
			held = append(held, e)
			continue
		}
		b.rebuild(e)
		b.pace.took(e.ref, e.built)
		delete(b.pending, e.ref)
		if e.built != was {
			gone, come, changed = appendIf(gone, was), appendIf(come, e.built), append(changed, e.ref)
		}
	}
	b.sorted = diff.Apply(b.sorted, gone, come, func(x, y *snapshot.Service) int { return x.Ref.Compare(y.Ref) })
	b.dirty = held
	return changed
}

func appendIf(list []*snapshot.Service, s *snapshot.Service) []*snapshot.Service {
	if s == nil {
		return list
	}
	return append(list, s)
}

func (b *Builder) rebuild(e *entry) {
	e.dirty = false
	if e.service == nil {
		e.built = nil
		if len(e.parts) == 0 {
			delete(b.services, e.ref)
		}
		return
	}
	svc := *e.service.value
	svc.Endpoints, svc.LeftOut = e.endpoints(svc.Ports)
	if e.built == nil || !sameService(e.built, &svc) {
		e.built = &svc
		b.triggers = append(b.triggers, b.pending[e.ref]...)
		b.triggers = b.triggers[max(0, len(b.triggers)-mostTriggers):]
	}
	e.service.value = e.built // one copy of it is enough
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
		slices.Equal(a.ForZones(), b.ForZones()) && slices.Equal(a.ForNodes(), b.ForNodes())
}

// setPart takes a slice in, or out of its Service's endpoints if its labels say
// that it is of none (any more) or of a headless one. It reports whether anything changed.
func (b *Builder) setPart(p *part) bool {
	old := b.parts[p.ref]
	if old != nil && b.outdated(p, old) {
		return false
	}
	if old != nil {
		b.dropPart(old)
	}
	if p.value == nil {
		return old != nil
	}
	e := b.entry(*p.value)
	p.value = &e.ref // one copy of it is enough
	e.parts = append(slices.Clip(e.parts), p)
	b.parts[p.ref] = p
	b.touch(e)
	if at := triggerTime(p.trigger); !at.IsZero() {
		b.pending[e.ref] = append(b.pending[e.ref], at)
	}
	p.trigger = ""
	return true
}

func (b *Builder) dropPart(p *part) {
	e := b.services[*p.value]
	delete(b.parts, p.ref)
	e.parts = slices.DeleteFunc(e.parts, func(o *part) bool { return o == p })
	b.touch(e)
}

// kind holds the values of one cluster-scoped kind by name.
type kind[T any] struct {
	byName map[string]*item[T]
	list   []*T // the values, sorted; nil if they changed
}

func newKind[T any]() kind[T] { return kind[T]{byName: map[string]*item[T]{}} }

func (k *kind[T]) set(b *Builder, it *item[T]) bool {
	old, ok := k.byName[it.ref.Name]
	if ok && b.outdated(it, old) {
		return false
	}
	same := ok && reflect.DeepEqual(old.value, it.value)
	if same {
		it.value = old.value
	} else {
		k.list = nil
	}
	k.byName[it.ref.Name] = it
	return !same
}

func (k *kind[T]) remove(b *Builder, it *item[T]) bool {
	old, ok := k.byName[it.ref.Name]
	if !ok || b.another(it, old) {
		return false
	}
	delete(k.byName, it.ref.Name)
	k.list = nil
	return true
}

// replace takes all in, in the place of what is held, and reports whether anything
// differs. It does not look at versions: all may be of another source.
func (k *kind[T]) replace(all []*item[T]) bool {
	next := make(map[string]*item[T], len(all))
	differs := false
	for _, it := range all {
		old, ok := k.byName[it.ref.Name]
		if ok && reflect.DeepEqual(old.value, it.value) {
			it.value = old.value
		} else {
			differs = true
		}
		next[it.ref.Name] = it
	}
	differs = differs || len(next) != len(k.byName)
	if differs {
		k.list = nil
	}
	k.byName = next
	return differs
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

// older reports whether a is an earlier version of an object than b. Resource
// versions of one object can be compared as numbers (KEP-5504).
func older(a, b metav1.Object) bool {
	x, errX := strconv.ParseUint(a.GetResourceVersion(), 10, 64)
	y, errY := strconv.ParseUint(b.GetResourceVersion(), 10, 64)
	return errX == nil && errY == nil && x < y
}
