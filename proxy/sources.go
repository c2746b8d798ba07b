package proxy

import (
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// sources turns loadBalancerSourceRanges into the prefixes of one family that
// may connect, merged. nil means everybody: no range at all, or a range of
// length 0. Ranges of the other family only leave an empty, non-nil list:
// nobody. Text that is no range is passed over, as kube-proxy does.
func sources(ranges []string, family snapshot.Family) []netip.Prefix {
	if len(ranges) == 0 {
		return nil
	}
	var b netipx.IPSetBuilder
	for _, r := range ranges {
		p, err := netip.ParsePrefix(strings.TrimSpace(r))
		if err != nil || snapshot.FamilyOf(p.Addr()) != family {
			continue
		}
		if p.Bits() == 0 {
			return nil
		}
		b.AddPrefix(p.Masked())
	}
	set, _ := b.IPSet()
	return slices.Concat([]netip.Prefix{}, set.Prefixes())
}

// withNode adds the VIP itself as an allowed source if one of the node's
// addresses is allowed: a node's own connection to a VIP that it holds may
// carry the VIP as its source.
func withNode(allowed []netip.Prefix, vip netip.Addr, nodeAddrs []netip.Addr) []netip.Prefix {
	for _, p := range allowed {
		if slices.ContainsFunc(nodeAddrs, p.Contains) && !p.Contains(vip) {
			out := append(slices.Clone(allowed), netip.PrefixFrom(vip, vip.BitLen()))
			slices.SortFunc(out, netip.Prefix.Compare)
			return out
		}
	}
	return allowed
}
