package proxy

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// servedHere returns the addresses of a Service that other clusters announce too, without the
// VIPs for which no node of this cluster has a usable endpoint. A packet to one of those goes
// on as any other, to the cluster that has one.
func servedHere(in inputs, eps map[portKey][]*snapshot.Endpoint) *captured {
	out := *in.addrs
	// A refusal would end connections that another cluster can serve.
	out.vips = slices.DeleteFunc(slices.Clone(out.vips), func(vip netip.Addr) bool {
		return !slices.ContainsFunc(in.svc.Ports, func(p snapshot.Port) bool {
			return choose(eps[portKey{p.Name, p.Protocol, snapshot.FamilyOf(vip)}], in.node).anywhere
		})
	})
	out.ranged = slices.DeleteFunc(slices.Clone(out.ranged), func(v rangedVIP) bool { return !slices.Contains(out.vips, v.addr) })
	return &out
}
