package proxy

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// sources turns loadBalancerSourceRanges into the prefixes of one family that
// may connect, merged. nil means everybody: no range at all, ranges of the other
// family alone, or a range of length 0. Text that is not a range lets nobody in,
// but where it stands alone it does not open the Service either: then the list
// is empty and not nil.
func sources(ranges []string, family snapshot.Family) []netip.Prefix {
	if len(ranges) == 0 {
		return nil
	}
	var in []netip.Prefix
	foreign := 0
	for _, r := range ranges {
		p, ok := snapshot.ParsePrefix(strings.TrimSpace(r))
		if !ok {
			continue
		}
		if snapshot.FamilyOf(p.Addr()) != family {
			foreign++
			continue
		}
		// A range of length 0 removes the restriction for its family (spec 35).
		if p.Bits() == 0 {
			return nil
		}
		in = append(in, p)
	}
	// Ranges of the other family alone restrict that one alone (spec 35).
	if foreign == len(ranges) {
		return nil
	}
	return append([]netip.Prefix{}, merged(in)...)
}

// withNode adds the VIP itself as an allowed source if one of the node's
// addresses is allowed: a node's own connection to a VIP that it holds may
// carry the VIP as its source.
func withNode(allowed []netip.Prefix, vip netip.Addr, nodeAddrs []netip.Addr) []netip.Prefix {
	if !slices.ContainsFunc(nodeAddrs, func(a netip.Addr) bool { return contains(allowed, a) }) {
		return allowed
	}
	return merged(append(slices.Clone(allowed), netip.PrefixFrom(vip, vip.BitLen())))
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}
