package kube

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// The budget of one Service: so much of its EndpointSlices is read. Kubernetes bounds a
// slice, but not how many there are, and each endpoint counts once for each port.
const (
	mostEndpoints = 1 << 15 // ports times addresses
	mostPorts     = 4096    // of the Service's: as many as a node forwards
)

// boundedEndpoints returns the endpoints of a Service, and what of them is left out because
// the Service is beyond its budget: "" for nothing. Its work is in proportion to the
// slices, plus that of the budget.
func boundedEndpoints(s *corev1.Service, all []*discoveryv1.EndpointSlice) (eps []snapshot.Endpoint, left string) {
	total := 0
	for _, sl := range all {
		total += len(sl.Endpoints) * len(sl.Ports)
	}
	if total <= mostEndpoints {
		return toEndpoints(all), ""
	}
	eps = within(s.Spec.Ports, all)
	return eps, fmt.Sprintf("%d of the %d endpoints of its EndpointSlices", total-len(eps), total)
}

// candidate is an endpoint of a slice before its ports are taken.
type candidate struct {
	slice    int
	addr     netip.Addr
	endpoint *discoveryv1.Endpoint
}

// place is a port of a slice, and the number of the Service's port of that name.
type place struct {
	port   *discoveryv1.EndpointPort
	number int
}

// within returns as many endpoints as the budget has room for: of each port the same
// number, those that are ready first. It depends on nothing but the slices' content, so
// that one endpoint that comes or goes changes one.
func within(ports []corev1.ServicePort, all []*discoveryv1.EndpointSlice) []snapshot.Endpoint {
	all = slices.SortedFunc(slices.Values(all), func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	names, open := places(ports, all)
	each, taken := max(1, mostEndpoints/max(1, names)), make([]int, names)
	room := make([]snapshot.Endpoint, each*names) // of each port in turn
	for _, c := range candidates(all) {
		open[c.slice] = slices.DeleteFunc(open[c.slice], func(p place) bool {
			// A port that is full is not looked at again: the work stays within the budget.
			if taken[p.number] == each {
				return true
			}
			room[p.number*each+taken[p.number]] = toEndpoint(c.addr, *p.port, *c.endpoint)
			taken[p.number]++
			return false
		})
	}
	out := room[:0]
	for i, n := range taken {
		out = append(out, union(room[i*each:i*each+n])...) // many short lists are sorted faster than one
	}
	return out
}

// places returns how many names the ports of a Service have, and the ports of each
// slice that have one of these names. The names are numbered in their order.
func places(ports []corev1.ServicePort, all []*discoveryv1.EndpointSlice) (names int, open [][]place) {
	var sorted []string
	for _, p := range ports[:min(len(ports), mostPorts)] {
		sorted = append(sorted, p.Name)
	}
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	number := make(map[string]int, len(sorted))
	for i, name := range sorted {
		number[name] = i
	}
	open = make([][]place, len(all))
	for i, sl := range all {
		for j := range sl.Ports {
			p := &sl.Ports[j]
			if !takes(*p) {
				continue
			}
			if n, ok := number[*p.Name]; ok {
				open[i] = append(open[i], place{p, n})
			}
		}
	}
	return len(sorted), open
}

// candidates returns the endpoints of slices, those that are ready first, and not more
// than the budget has room for.
func candidates(all []*discoveryv1.EndpointSlice) []candidate {
	var out []candidate
	for i, sl := range all {
		for j := range sl.Endpoints {
			ep := &sl.Endpoints[j]
			if len(out) == mostEndpoints {
				break
			}
			if len(ep.Addresses) == 0 {
				continue
			}
			if addr, ok := snapshot.ParseAddr(ep.Addresses[0]); ok {
				out = append(out, candidate{i, addr, ep})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b candidate) int {
		return cmp.Or(last(!isTrue(a.endpoint.Conditions.Ready, true), !isTrue(b.endpoint.Conditions.Ready, true)), a.addr.Compare(b.addr))
	})
	return out
}
