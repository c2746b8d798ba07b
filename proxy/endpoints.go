package proxy

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// choice is which of one port's endpoints of one family a node uses. The rules
// are kube-proxy's (pkg/proxy/topology.go, CategorizeEndpoints).
type choice struct {
	cluster  []netip.AddrPort     // for policy Cluster: ready ones by topology, else serving and terminating ones
	local    []netip.AddrPort     // on this node: ready ones, else serving and terminating ones
	nowhere  []netip.AddrPort     // on no node that is named: ready ones, else serving and terminating ones
	serving  []netip.AddrPort     // ready, or serving and terminating: their connections stay
	lost     []netip.AddrPort     // on nodes that are lost, while there are others
	members  []netip.AddrPort     // all of them
	anywhere bool                 // there is a usable endpoint somewhere
	taking   []*snapshot.Endpoint // all that take connections: ready ones, else serving and terminating ones
}

// choose decides which of a port's endpoints a connection here may go to.
func choose(eps []*snapshot.Endpoint, here *nodeFacts) choice {
	var ready, draining, lost []*snapshot.Endpoint
	for _, ep := range eps {
		if here.isolates(ep.Node) {
			lost = append(lost, ep)
		}
		switch {
		case ep.Ready:
			ready = append(ready, ep)
		// One that serves and is neither ready nor terminating takes nothing (spec 10).
		case ep.Serving && ep.Terminating:
			draining = append(draining, ep)
		}
	}
	c := choice{anywhere: len(ready)+len(draining) > 0, members: targets(eps)}
	if left, leaving := here.outside(ready), here.outside(draining); len(left)+len(leaving) > 0 {
		ready, draining = left, leaving // else the last ones are as good as any
		c.lost = targets(lost)
	}
	c.serving = targets(slices.Concat(ready, draining))
	c.cluster = targets(near(ready, here.name, here.zone))
	if c.taking = ready; len(ready) == 0 {
		// If all terminate, those that still serve are better than a refusal (spec 66).
		c.cluster, c.taking = targets(draining), draining
	}
	c.local = targets(onNode(ready, here.name))
	if len(c.local) == 0 {
		// While the outside load balancer leaves the node, it still sends here (spec 63).
		c.local = targets(onNode(draining, here.name))
	}
	if c.nowhere = targets(onNoNode(ready)); len(c.nowhere) == 0 {
		c.nowhere = targets(onNoNode(draining))
	}
	return c
}

// directed returns the endpoints on this node that take what others pass on, and how many
// there are by node. Topology has no say: all nodes have to count the same.
func (c choice) directed(here *nodeFacts) (local []netip.AddrPort, nodes []NodeEndpoints) {
	on := map[string][]*snapshot.Endpoint{}
	for _, ep := range c.taking {
		on[ep.Node] = append(on[ep.Node], ep)
	}
	for _, name := range slices.Sorted(maps.Keys(on)) {
		nodes = append(nodes, NodeEndpoints{name, len(on[name]), targets(on[name])})
	}
	return targets(onNode(c.taking, here.name)), nodes
}

// near applies the topology hints: if every endpoint has node hints and one is
// for this node, those for this node; else the same for zones; else all.
func near(eps []*snapshot.Endpoint, node, zone string) []*snapshot.Endpoint {
	if same := hinted(eps, node, func(e *snapshot.Endpoint) []string { return e.ForNodes() }); same != nil {
		return same
	}
	if same := hinted(eps, zone, func(e *snapshot.Endpoint) []string { return e.ForZones() }); same != nil {
		return same
	}
	return eps
}

func hinted(eps []*snapshot.Endpoint, want string, hints func(*snapshot.Endpoint) []string) []*snapshot.Endpoint {
	if want == "" {
		return nil
	}
	var out []*snapshot.Endpoint
	for _, e := range eps {
		h := hints(e)
		// One endpoint without a hint, and no hint counts (spec 70).
		if len(h) == 0 {
			return nil
		}
		if slices.Contains(h, want) {
			out = append(out, e)
		}
	}
	return out
}

func onNode(eps []*snapshot.Endpoint, node string) []*snapshot.Endpoint {
	var out []*snapshot.Endpoint
	for _, e := range eps {
		if e.Node != "" && e.Node == node {
			out = append(out, e)
		}
	}
	return out
}

// onNoNode returns the endpoints whose EndpointSlice names no node.
func onNoNode(eps []*snapshot.Endpoint) []*snapshot.Endpoint {
	var out []*snapshot.Endpoint
	for _, e := range eps {
		if e.Node == "" {
			out = append(out, e)
		}
	}
	return out
}

// isolates reports whether node is quarantined.
func (p *nodeFacts) isolates(node string) bool {
	_, found := slices.BinarySearch(p.quarantined, node)
	return found
}

// outside returns the endpoints that are on no quarantined node.
func (p *nodeFacts) outside(eps []*snapshot.Endpoint) []*snapshot.Endpoint {
	if len(p.quarantined) == 0 {
		return eps
	}
	return slices.DeleteFunc(slices.Clone(eps), func(e *snapshot.Endpoint) bool { return p.isolates(e.Node) })
}

func targets(eps []*snapshot.Endpoint) []netip.AddrPort {
	if len(eps) == 0 {
		return nil
	}
	out := make([]netip.AddrPort, len(eps))
	for i, e := range eps {
		out[i] = e.Addr
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}

// dialable reports whether a may be an endpoint, whatever Options say. Loopback, link-local,
// unspecified and multicast addresses may not: a Service would reach into a node or its link.
func dialable(a netip.Addr) bool {
	return a.IsValid() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsUnspecified() && !a.IsMulticast()
}

// only returns all endpoints, to which connections are confined if svc asks for that; nil
// otherwise. One that terminates is still among them until its pod has gone.
func (c choice) only(svc *snapshot.Service) []netip.AddrPort {
	switch {
	case !svc.ResetsRemoved:
		return nil
	case c.members == nil:
		return []netip.AddrPort{}
	}
	return c.members
}

// beyond returns the endpoints that serve, nil if those are the ones of cluster.
func (c choice) beyond(cluster []netip.AddrPort) []netip.AddrPort {
	if slices.Equal(c.serving, cluster) {
		return nil
	}
	return c.serving
}
