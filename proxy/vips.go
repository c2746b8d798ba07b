package proxy

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// captured are the addresses of one Service that its node catches, beside its
// cluster IPs: sorted, without duplicates, no address in two of the lists.
type captured struct {
	vips     []netip.Addr // of ours: an Address record gives them to it
	ranged   []rangedVIP  // of vips those whose record gives it ranges of ports too
	nodes    []Target     // ports of the node's own addresses: an Address record gives them to it
	foreign  []netip.Addr // other providers', from its status
	external []netip.Addr // spec.externalIPs, with the option
}

// nothing is what a Service captures that has cluster IPs alone.
var nothing = &captured{}

func (c *captured) equal(o *captured) bool {
	return c == o || slices.Equal(c.vips, o.vips) && slices.EqualFunc(c.ranged, o.ranged, rangedVIP.equal) && slices.Equal(c.nodes, o.nodes) && slices.Equal(c.foreign, o.foreign) && slices.Equal(c.external, o.external)
}

// capture decides which addresses svc may capture. Of ours (recorded, or in a pool) those whose record names it
// by UID, and no others: if a status or spec.externalIPs were enough, anybody who may
// patch services/status or create Services could hijack any of them
// (CVE-2020-8554).
func (m *memory) capture(svc *snapshot.Service) *captured {
	var c captured
	for _, a := range m.held[svc.Ref] {
		switch {
		case a.Deleting || svc.Type != snapshot.LoadBalancer || !a.Held(svc.Ref, svc.UID):
		case a.Node != "":
			c.nodes = append(c.nodes, m.ownPorts(svc, a)...)
		case !m.cluster.node.owns(a.Addr):
			// Of an address of the node itself every port but the Service's would be refused.
			c.vips = append(c.vips, a.Addr)
			if ranges := a.Ranges(svc.Ref, svc.UID); len(ranges) > 0 {
				c.ranged = append(c.ranged, rangedVIP{a.Addr, ranges})
			}
		}
	}
	c.vips = sorted(c.vips)
	slices.SortFunc(c.ranged, func(a, b rangedVIP) int { return a.addr.Compare(b.addr) })
	slices.SortFunc(c.nodes, Target.Compare)
	c.foreign = sorted(m.foreign(svc))
	// Anybody who may create Services could take any address: spec 23, CVE-2020-8554.
	if m.cluster.external {
		c.external = sorted(slices.DeleteFunc(slices.Clone(svc.ExternalIPs), func(ip netip.Addr) bool {
			return ours(m.snap, ip) || slices.Contains(c.foreign, ip)
		}))
	}
	if c.equal(nothing) {
		return nothing
	}
	return &c
}

// ownPorts returns the ports of the node's own addresses that the record a gives to svc:
// those that the record names, and not those that the Service has by now, or its owner
// could take the node's SSH until the controller says no. What a process of the node
// listens on stays its own.
func (m *memory) ownPorts(svc *snapshot.Service, a *snapshot.Address) []Target {
	var out []Target
	for _, h := range a.Holders {
		if h.Ref != svc.Ref {
			continue
		}
		for _, at := range a.CaughtAt(m.cluster.node.addrs) {
			for _, p := range h.Ports {
				t := Target{p.Protocol, netip.AddrPortFrom(at, p.Port)}
				if _, listens := slices.BinarySearchFunc(m.cluster.listening, t, Target.Compare); !listens {
					out = append(out, t)
				}
			}
		}
	}
	return out
}

// foreign returns the addresses that another provider put in svc's status.
func (m *memory) foreign(svc *snapshot.Service) []netip.Addr {
	var out []netip.Addr
	if svc.Type != snapshot.LoadBalancer {
		return nil
	}
	for _, in := range svc.Ingress {
		// With ipMode Proxy, the other provider's own proxy wants to see the packet first (spec 30).
		if in.IP.IsValid() && !in.Proxy && !m.reserved.has(in.IP) && m.clusterIPs[in.IP] == 0 && !ours(m.snap, in.IP) {
			out = append(out, in.IP)
		}
	}
	return out
}

func sorted(ips []netip.Addr) []netip.Addr {
	slices.SortFunc(ips, netip.Addr.Compare)
	return slices.Compact(ips)
}

// ours reports whether addr is recorded or in a pool.
func ours(s *snapshot.Snapshot, addr netip.Addr) bool {
	if _, ok := slices.BinarySearchFunc(s.Addresses, addr, func(a *snapshot.Address, want netip.Addr) int { return a.Addr.Compare(want) }); ok {
		return true
	}
	for _, p := range s.Pools {
		for _, r := range p.Ranges {
			if r.Contains(addr) {
				return true
			}
		}
	}
	return false
}
