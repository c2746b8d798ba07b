package apitest

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Sync makes the server hold just what s says. What fairlead writes into objects
// besides is kept.
func (a *API) Sync(s *snapshot.Snapshot) {
	match(a.services, s.Services, service)
	match(a.slices, endpointsOf(s), func(p placed, _ endpointSlice) endpointSlice { return slice(p) })
	match(a.pools, s.Pools, pool)
	match(a.addresses, slices.Concat(s.Addresses, s.NodeAddresses), address)
	match(a.nodes, s.Nodes, func(n *snapshot.Node, _ coreNode) coreNode { return node(n) })
	match(a.namespaces, s.Namespaces, func(n *snapshot.Namespace, _ coreNamespace) coreNamespace { return namespace(n) })
	match(a.nodeStates, s.NodeStates, func(st *snapshot.NodeState, _ nodeState) nodeState { return nodeStateOf(st) })
	match(a.cidrs, s.ServiceCIDRs, func(c *snapshot.ServiceCIDR, _ cidr) cidr { return serviceCIDR(c) })
}

// match brings one kind to what want says.
func match[T object[T], L, V any](have *objects[T, L], want []V, convert func(V, T) T) {
	left := maps.Clone(have.all)
	for _, v := range want {
		var none T
		id := key(convert(v, none))
		old, there := have.all[id]
		delete(left, id)
		now := convert(v, old)
		if there {
			if old.GetUID() != now.GetUID() && now.GetUID() != "" {
				have.drop(old) // created again
			} else {
				now.SetUID(old.GetUID())
			}
			now.SetResourceVersion(old.GetResourceVersion())
			if equality.Semantic.DeepEqual(old, now) {
				continue
			}
		}
		have.put(now)
	}
	for _, id := range slices.Sorted(maps.Keys(left)) {
		have.drop(left[id])
	}
}

// Services lists the Services of the server in the order of their creation.
func (a *API) Services() []Service {
	out := slices.Collect(maps.Values(a.services.all))
	slices.SortFunc(out, func(x, y Service) int {
		if c := x.CreationTimestamp.Compare(y.CreationTimestamp.Time); c != 0 {
			return c
		}
		return compareNames(x, y)
	})
	for i := range out {
		out[i] = out[i].DeepCopy()
	}
	return out
}

// Put takes a Service in as somebody else wrote it.
func (a *API) Put(svc Service) { a.services.put(svc) }

// Delete deletes a Service, or begins to if it has finalizers.
func (a *API) Delete(svc Service) {
	if len(svc.Finalizers) == 0 {
		a.services.drop(svc)
		return
	}
	svc.DeletionTimestamp = &metav1.Time{Time: svc.CreationTimestamp.Time}
	a.services.put(svc)
}

// Pools lists the pools of the server by name.
func (a *API) Pools() []Pool {
	out := slices.Collect(maps.Values(a.pools.all))
	slices.SortFunc(out, func(x, y Pool) int { return compareNames(x, y) })
	return out
}

// PutPool takes a pool in as somebody else wrote it.
func (a *API) PutPool(p Pool) { a.pools.put(p) }

// DeletePool deletes a pool.
func (a *API) DeletePool(p Pool) { a.pools.drop(p) }

// Records lists the records of the server by name.
func (a *API) Records() []Record {
	out := slices.Collect(maps.Values(a.addresses.all))
	slices.SortFunc(out, func(x, y Record) int { return compareNames(x, y) })
	return out
}

// Clear deletes everything.
func (a *API) Clear() {
	a.Sync(&snapshot.Snapshot{})
}

func compareNames(x, y metav1.Object) int {
	if key(x) < key(y) {
		return -1
	}
	return 1
}
