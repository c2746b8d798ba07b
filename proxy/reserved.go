package proxy

import (
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// apiServer is the Service whose endpoints are the API servers.
var apiServer = snapshot.Ref{Namespace: "default", Name: "kubernetes"}

// reserved are the addresses that no status may capture: those of nodes, of the API
// servers, and of the ranges of pods and Services. If a status were enough, its writer
// could receive what pods send to a kubelet, to the API, to another tenant's pod or to a
// port of a ClusterIP that its Service lacks (CVE-2020-8554).
type reserved struct {
	nodes    []*snapshot.Node  // whose addresses and podCIDRs they are
	services []netip.Prefix    // the ranges of ClusterIPs, as far as they are known
	api      *snapshot.Service // whose endpoints they are; nil: none
	addrs    map[netip.Addr]bool
	ranges   *netipx.IPSet
}

// of returns r for another Snapshot, whose ClusterIPs are in services.
func (r reserved) of(s *snapshot.Snapshot, services []netip.Prefix) reserved {
	api := s.Service(apiServer)
	if r.addrs != nil && r.api == api && slices.Equal(r.nodes, s.Nodes) && slices.Equal(r.services, services) {
		return r
	}
	out := reserved{nodes: s.Nodes, services: services, api: api, addrs: make(map[netip.Addr]bool, 2*len(s.Nodes))}
	var ranges netipx.IPSetBuilder
	for _, p := range services {
		ranges.AddPrefix(p)
	}
	for _, n := range s.Nodes {
		for _, a := range slices.Concat(n.InternalIPs, n.ExternalIPs) {
			out.addrs[a] = true
		}
		for _, p := range n.PodCIDRs {
			ranges.AddPrefix(p.Masked())
		}
	}
	out.ranges, _ = ranges.IPSet() // an error is about invalid prefixes, which hold no address
	if api != nil {
		for _, ep := range api.Endpoints {
			out.addrs[ep.Addr.Addr()] = true
		}
	}
	return out
}

// has reports whether addr is one of them.
func (r reserved) has(addr netip.Addr) bool { return r.addrs[addr] || r.ranges.Contains(addr) }

// differ marks the addresses that only one of r and o has.
func (r reserved) differ(o reserved, changed map[netip.Addr]bool) {
	for a := range r.addrs {
		if !o.addrs[a] {
			changed[a] = true
		}
	}
	for a := range o.addrs {
		if !r.addrs[a] {
			changed[a] = true
		}
	}
}
