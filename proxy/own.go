package proxy

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Own returns the VIPs, all addresses that are recorded, that are addresses of the
// node itself: InternalIPs of node, which may be nil, or in links. Sorted. Links
// come and go with pods, so only the addresses that matter are returned.
func Own(s *snapshot.Snapshot, node *snapshot.Node, links []netip.Addr) []netip.Addr {
	var out []netip.Addr
	add := func(addrs []netip.Addr) {
		for _, a := range addrs {
			if s.Address(a) != nil {
				out = append(out, a)
			}
		}
	}
	// As a VIP, a node's address had its other ports refused: SSH, the kubelet, the API (story own-address).
	if node != nil {
		add(node.InternalIPs)
	}
	add(links)
	return sorted(out)
}

// owns reports whether addr is an address of the node itself.
func (p *nodeFacts) owns(addr netip.Addr) bool { return slices.Contains(p.own, addr) }
