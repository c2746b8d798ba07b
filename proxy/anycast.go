package proxy

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// servedHere returns the VIPs of a Service that other clusters announce too, without those
// for which no node of this cluster has a usable endpoint. A packet to one of those goes on
// as any other, to the cluster that has one.
func servedHere(in inputs, eps map[portKey][]*snapshot.Endpoint) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(in.addrs.vips), func(vip netip.Addr) bool {
		return !slices.ContainsFunc(in.svc.Ports, func(p snapshot.Port) bool {
			return choose(eps[portKey{p.Name, p.Protocol, snapshot.FamilyOf(vip)}], in.node).anywhere
		})
	})
}
