package egress

import (
	"net/netip"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// never are destinations that no router takes out of the cluster, beside what the kernel
// does not take for a host: this host, link-local addresses, multicast.
var never = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/3"), // multicast, reserved addresses and broadcast
	netip.MustParsePrefix("::/127"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

// inside returns the destinations that are in the cluster: pods, Services, nodes and the
// addresses of pools.
func inside(in Inputs, nodes map[netip.Addr]bool) []netip.Prefix {
	networks := set(networksOf(in, nodes))
	// Most addresses of Services and pods are in these networks.
	single := map[netip.Addr]bool{}
	add := func(a netip.Addr) {
		if a.IsValid() && !networks.Contains(a) {
			single[a] = true
		}
	}
	for _, svc := range in.Snapshot.Services {
		for _, a := range svc.ClusterIPs {
			add(a)
		}
		for _, in := range svc.Ingress {
			add(in.IP)
		}
		for _, ep := range svc.Endpoints {
			// An endpoint without a node is a host outside.
			if a := ep.Addr.Addr(); ep.Node != "" && routable(a) {
				add(a)
			}
		}
	}
	var b netipx.IPSetBuilder
	b.AddSet(networks)
	for a := range single {
		b.Add(a)
	}
	return set(&b).Prefixes()
}

// networksOf returns what of the cluster does not depend on single Services.
func networksOf(in Inputs, nodes map[netip.Addr]bool) *netipx.IPSetBuilder {
	var b netipx.IPSetBuilder
	prefixes := func(all []netip.Prefix) {
		for _, p := range all {
			b.AddPrefix(p.Masked())
		}
	}
	prefixes(never)
	prefixes(in.Services)
	for _, c := range in.Snapshot.ServiceCIDRs {
		prefixes(c.Prefixes)
	}
	for a := range nodes {
		b.Add(a)
	}
	for _, n := range in.Snapshot.Nodes {
		prefixes(n.PodCIDRs)
	}
	for _, p := range in.Snapshot.Pools {
		for _, r := range p.Ranges {
			b.AddRange(r)
		}
	}
	for _, a := range in.Snapshot.Addresses {
		b.Add(a.Addr)
	}
	prefixes(in.Pods)
	return &b
}

func set(b *netipx.IPSetBuilder) *netipx.IPSet {
	s, err := b.IPSet()
	if err != nil {
		return &netipx.IPSet{} // an error is about invalid prefixes, which hold no address
	}
	return s
}

// routable reports whether a may be the address of a pod.
func routable(a netip.Addr) bool {
	return a.IsValid() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsUnspecified() && !a.IsMulticast()
}

// nodeAddrs are the addresses of the nodes, with those of this node's links.
func nodeAddrs(s *snapshot.Snapshot, own []netip.Addr) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, a := range own {
		out[a.WithZone("")] = true
	}
	for _, n := range s.Nodes {
		for _, all := range [][]netip.Addr{n.InternalIPs, n.ExternalIPs} {
			for _, a := range all {
				out[a] = true
			}
		}
	}
	return out
}
