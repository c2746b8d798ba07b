package kube

import (
	"cmp"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// The budget of one Service: so much of its EndpointSlices is read. Kubernetes bounds a
// slice, but not how many there are, and each endpoint counts once for each port.
const (
	mostEndpoints = 1 << 15           // ports times addresses
	mostPorts     = 4096              // of the Service's: as many as a node forwards
	mostLooked    = 4 * mostEndpoints // endpoints of its slices that are compared
)

// read makes the endpoints of a part, at most the budget of a Service.
func (p *part) read() {
	if p.unread == nil {
		return
	}
	sl := p.unread
	if p.total > mostEndpoints {
		sl = reduced(sl)
	}
	p.endpoints, p.unread = toEndpoints(sl), nil
}

// reduced is a slice with as many endpoints as the budget has room for: of each port the
// same number, pods that are ready first.
func reduced(sl *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	sl = sl.DeepCopy()
	sl.Ports = slices.DeleteFunc(sl.Ports, func(p discoveryv1.EndpointPort) bool { return !takes(p) })
	sl.Ports = sl.Ports[:min(len(sl.Ports), mostEndpoints)]
	slices.SortStableFunc(sl.Endpoints, func(a, b discoveryv1.Endpoint) int {
		return cmp.Or(last(!isTrue(a.Conditions.Ready, true), !isTrue(b.Conditions.Ready, true)), slices.Compare(a.Addresses, b.Addresses))
	})
	sl.Endpoints = sl.Endpoints[:min(len(sl.Endpoints), mostEndpoints/max(1, len(sl.Ports)))]
	return sl
}

// boundedUnion returns the endpoints of a Service, and what of them is left out because
// the Service is beyond its budget: "" for nothing.
func boundedUnion(ports []snapshot.Port, parts []*part) (eps []snapshot.Endpoint, left string) {
	if totalOf(parts) <= mostEndpoints {
		for _, p := range parts {
			p.read()
		}
		return union(parts), ""
	}
	// How many is not said: each pod that comes or goes would change the Service's condition.
	return within(ports, parts), "some endpoints of its EndpointSlices"
}

// totalOf is how many endpoints parts have, which is more than the budget at times.
func totalOf(parts []*part) int {
	total := 0
	for _, p := range parts {
		total += p.total
	}
	return total
}

// within returns as many endpoints as the budget has room for: of each port the same
// number, those that are ready first. It depends on nothing but the slices' content, so
// that one endpoint that comes or goes changes one.
func within(ports []snapshot.Port, parts []*part) []snapshot.Endpoint {
	named := map[string]int{} // the ports' names, and how many endpoints of each are taken
	for _, p := range ports[:min(len(ports), mostPorts)] {
		named[p.Name] = 0
	}
	each := max(1, mostEndpoints/max(1, len(named)))
	var out []snapshot.Endpoint
	for _, ep := range looked(parts) {
		if n, ok := named[ep.PortName]; ok && n < each {
			named[ep.PortName] = n + 1
			out = append(out, ep)
		}
	}
	return distinct(out)
}

// looked are the endpoints of the first slices, those that are ready first. The other
// slices are not read: each takes ten times the memory then.
func looked(parts []*part) []snapshot.Endpoint {
	var all []snapshot.Endpoint
	for _, p := range slices.SortedFunc(slices.Values(parts), func(a, b *part) int { return strings.Compare(a.ref.Name, b.ref.Name) }) {
		if len(all) == mostLooked {
			break
		}
		p.read()
		all = append(all, p.endpoints[:min(len(p.endpoints), mostLooked-len(all))]...)
	}
	slices.SortStableFunc(all, func(a, b snapshot.Endpoint) int {
		return cmp.Or(last(!a.Ready, !b.Ready), a.Addr.Compare(b.Addr))
	})
	return all
}
