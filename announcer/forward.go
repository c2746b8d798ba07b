package announcer

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Holders returns the Services of type LoadBalancer that hold a.
func Holders(s *snapshot.Snapshot, a *snapshot.Address) []*snapshot.Service { return holders(s, a) }

// Refs names svcs.
func Refs(svcs []*snapshot.Service) []snapshot.Ref { return refs(svcs) }

// HasEndpoint reports whether one of svcs has an endpoint of vip's family, on any
// node, that takes new connections.
func HasEndpoint(svcs []*snapshot.Service, vip netip.Addr) bool {
	return slices.ContainsFunc(svcs, func(s *snapshot.Service) bool { return usable(s, vip, "") })
}

// LocalEndpoints reports whether every one of svcs whose externalTrafficPolicy is
// Local has a usable endpoint of vip's family on node.
func LocalEndpoints(svcs []*snapshot.Service, vip netip.Addr, node string) bool {
	// With policy Local a node drops what it has no endpoint for (spec 42).
	return !slices.ContainsFunc(svcs, func(s *snapshot.Service) bool {
		return s.ExternalTrafficPolicy == snapshot.PolicyLocal && !usable(s, vip, node)
	})
}

// Parted returns those of svcs, which share the address vip, that node does not serve: no
// node has usable endpoints of all that have the externalTrafficPolicy Local, and this one has
// none of theirs. It returns nil if some node has endpoints of all.
func Parted(s *snapshot.Snapshot, svcs []*snapshot.Service, vip netip.Addr, node string) (out []snapshot.Ref) {
	all := func(n *snapshot.Node) bool { return LocalEndpoints(svcs, vip, n.Name) }
	if len(svcs) < 2 || slices.ContainsFunc(s.Nodes, all) {
		return nil
	}
	for _, svc := range svcs {
		if svc.ExternalTrafficPolicy == snapshot.PolicyLocal && !usable(svc, vip, node) {
			out = append(out, svc.Ref)
		}
	}
	return out
}

// MayAnnounce reports whether Kubernetes lets n attract traffic: it is ready, has
// a network, is not on its way out and not excluded by its labels.
func MayAnnounce(n *snapshot.Node) bool {
	// A machine that shuts down in order is NotReady, and forwards until it has handed over.
	return n != nil && (n.Ready || n.ShuttingDown) && !n.NetworkUnavail && !n.Deleting && !n.Excluded()
}
