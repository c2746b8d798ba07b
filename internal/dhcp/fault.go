package dhcp

import (
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Fault says why a Service cannot have addr by the lease of p for it, as far as the
// cluster shows: "" if it can. A server may be wrong, or somebody else's.
func Fault(s *snapshot.Snapshot, p *snapshot.Pool, of snapshot.PoolLease, addr netip.Addr) string {
	from := p.FromDHCP
	switch {
	case !addr.IsValid() || snapshot.FamilyOf(addr) != of.Family:
		return fmt.Sprintf("it is not an %s address", of.Family)
	case !addr.IsGlobalUnicast() || reserved(addr):
		return "no client can connect to it"
	case len(from.Subnets) > 0 && !inAny(from.Subnets, addr):
		return "it is outside of the subnets of pool " + p.Name
	}
	for _, n := range s.Nodes {
		if slices.Contains(n.InternalIPs, addr) || slices.Contains(n.ExternalIPs, addr) {
			return "it is an address of node " + n.Name
		}
		if inAny(n.PodCIDRs, addr) {
			return "it is an address of the pods of node " + n.Name
		}
	}
	for _, st := range s.NodeStates {
		if ofLinks(st.Links, addr) {
			return "it is an address of node " + st.Node
		}
	}
	for _, c := range s.ServiceCIDRs {
		if inAny(c.Prefixes, addr) {
			return "it is in the ServiceCIDR " + c.Name
		}
	}
	return ofOthers(s, p, of, addr)
}

// ofOthers says which pool or Service has addr already.
func ofOthers(s *snapshot.Snapshot, p *snapshot.Pool, of snapshot.PoolLease, addr netip.Addr) string {
	for _, o := range s.Pools {
		if o.Name != p.Name && slices.ContainsFunc(o.Ranges, func(r netipx.IPRange) bool { return r.Contains(addr) }) {
			return "it is an address of pool " + o.Name
		}
	}
	for _, l := range p.Leases {
		if l.Addr == addr && l.Compare(of) != 0 {
			return fmt.Sprintf("it is leased for the Service %s already", l.Ref)
		}
	}
	for _, svc := range s.Services {
		if slices.Contains(svc.ClusterIPs, addr) || slices.Contains(svc.ExternalIPs, addr) {
			return fmt.Sprintf("it is an address of the Service %s", svc.Ref)
		}
	}
	return ""
}

// Fault is the function Fault, and what this node knows beside the cluster: its links, the
// network's routers, and which servers the pool trusts.
func (in Inputs) Fault(w Want, m Message) string {
	from := w.Pool.FromDHCP
	if len(from.Servers) > 0 && !slices.Contains(from.Servers, m.Server) {
		return "the server is not one of the servers of pool " + w.Pool.Name
	}
	if why := Fault(in.Snapshot, w.Pool, w.Start, m.Addr); why != "" {
		return why
	}
	router := slices.ContainsFunc(in.Routers, func(r snapshot.Router) bool { return r.Addr.WithZone("") == m.Addr })
	switch {
	case router || slices.Contains(m.Routers, m.Addr):
		return "it is the address of a router"
	case m.Addr == m.Server:
		return "it is the address of the server"
	case slices.Contains(in.Own, m.Addr):
		return "it is an address of this node"
	}
	for _, member := range in.View.Members {
		if member.Report != nil && ofLinks(member.Report.Links, m.Addr) {
			return "it is an address of node " + member.Node
		}
	}
	return in.offSubnet(from, m.Addr)
}

// offSubnet says why addr is not one of the link's own subnets, if the pool names no other
// ones, or is one that means all hosts there.
func (in Inputs) offSubnet(from *snapshot.FromDHCP, addr netip.Addr) string {
	on := len(from.Subnets) > 0
	for _, l := range in.Links {
		if l.Name != from.Interface {
			continue
		}
		for _, p := range l.Prefixes {
			subnet := p.Masked()
			if p.Addr().Is6() && p.Bits() > snapshot.PrefixBits {
				// The node may have its own address by DHCPv6, which tells no subnet.
				subnet = netip.PrefixFrom(p.Addr(), snapshot.PrefixBits).Masked()
			}
			if !subnet.Contains(addr) {
				continue
			}
			on = true
			// Both addresses of a /31 are hosts' (RFC 3021).
			if addr.Is4() && subnet.Bits() < 31 && (addr == subnet.Addr() || addr == netipx.PrefixLastIP(subnet)) {
				return "it is the network's own address, or that of all its hosts"
			}
		}
	}
	if !on {
		return "it is in no subnet of the node on " + from.Interface
	}
	return ""
}

func inAny(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func ofLinks(links []snapshot.Link, addr netip.Addr) bool {
	return slices.ContainsFunc(links, func(l snapshot.Link) bool {
		return slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool { return p.Addr() == addr })
	})
}

// unusable are the blocks of IPv4 that IsGlobalUnicast counts in (RFC 6890).
var unusable = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("240.0.0.0/4")}

func reserved(addr netip.Addr) bool { return inAny(unusable, addr) }
