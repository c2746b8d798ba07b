// Package nodeport decides on which of a node's addresses its node ports
// answer. It acts on nothing.
package nodeport

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Resolve returns the addresses on which node ports answer, sorted. Without
// cidrs these are the node's primary addresses: the first InternalIP of each
// family. With cidrs they are all addresses of the node's links (local) and
// InternalIPs inside one of them. Loopback, link-local and multicast addresses
// never answer. A nil node has none.
func Resolve(node *snapshot.Node, local []netip.Addr, cidrs []netip.Prefix) []netip.Addr {
	if node == nil {
		return nil
	}
	var out []netip.Addr
	if len(cidrs) == 0 {
		out = primary(node.InternalIPs)
	} else {
		for _, a := range slices.Concat(node.InternalIPs, local) {
			if slices.ContainsFunc(cidrs, func(p netip.Prefix) bool { return p.Contains(a) }) {
				out = append(out, a)
			}
		}
	}
	// At loopback, route_localnet would let other hosts reach what listens there alone: CVE-2020-8558.
	out = slices.DeleteFunc(out, unfit)
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// Primary is the word for a node's primary addresses among CIDRs.
const Primary = "primary"

// ParseAddresses reads the CIDRs for Resolve, and whether the word localhost is among them.
// The word primary, which stands without CIDRs, gives none. Any other text is an error.
func ParseAddresses(texts []string) (cidrs []netip.Prefix, localhost bool, err error) {
	first := false
	for _, t := range texts {
		switch t {
		case Primary:
			first = true
			continue
		case Localhost:
			localhost = true
			continue
		}
		p, err := netip.ParsePrefix(t)
		if err != nil {
			return nil, false, fmt.Errorf("%q is neither a CIDR nor %q nor %q", t, Primary, Localhost)
		}
		cidrs = append(cidrs, p.Masked())
	}
	if first && len(cidrs) > 0 {
		return nil, false, fmt.Errorf("%q stands without CIDRs", Primary)
	}
	return cidrs, localhost, nil
}

// Unserved returns those of cidrs that hold no address on which node ports may
// answer, such as loopback.
func Unserved(cidrs []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(cidrs), func(p netip.Prefix) bool {
		return !unfit(p.Addr()) || p.Addr().IsUnspecified() && !p.IsSingleIP()
	})
}

func primary(addrs []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, family := range []snapshot.Family{snapshot.IPv4, snapshot.IPv6} {
		i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return snapshot.FamilyOf(a) == family })
		if i >= 0 {
			out = append(out, addrs[i])
		}
	}
	return out
}

func unfit(a netip.Addr) bool {
	return !a.IsValid() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified()
}
