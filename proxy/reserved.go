package proxy

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// apiServer is the Service whose endpoints are the API servers.
var apiServer = snapshot.Ref{Namespace: "default", Name: "kubernetes"}

// reserved are the addresses that no status may capture: those of nodes and of the
// API servers. If a status were enough, its writer could receive what pods send to a
// kubelet or to the API (CVE-2020-8554).
type reserved struct {
	nodes []*snapshot.Node  // whose addresses they are
	api   *snapshot.Service // whose endpoints they are; nil: none
	addrs map[netip.Addr]bool
}

// of returns r for another Snapshot.
func (r reserved) of(s *snapshot.Snapshot) reserved {
	api := s.Service(apiServer)
	if r.addrs != nil && r.api == api && slices.Equal(r.nodes, s.Nodes) {
		return r
	}
	out := reserved{nodes: s.Nodes, api: api, addrs: make(map[netip.Addr]bool, 2*len(s.Nodes))}
	for _, n := range s.Nodes {
		for _, a := range slices.Concat(n.InternalIPs, n.ExternalIPs) {
			out.addrs[a] = true
		}
	}
	if api != nil {
		for _, ep := range api.Endpoints {
			out.addrs[ep.Addr.Addr()] = true
		}
	}
	return out
}

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
