package nodeport

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Localhost is the word among CIDRs that has the TCP node ports answer on the node's
// loopback addresses, to processes of the node alone.
const Localhost = "localhost"

// Relay is a node port at a loopback address. The kernel's rules serve none there, because
// that would let other hosts reach what listens there alone (CVE-2020-8558). So a relay
// connects to the same port of the node's address, which the rules serve.
type Relay struct {
	Service snapshot.Ref
	At      netip.AddrPort // 127.0.0.1 or ::1, with the node port
	To      netip.Addr     // of the node
}

// Relays returns the relays of the TCP node ports, sorted, on a node whose node ports answer
// on addrs. A family without an address has none.
func (x *Index) Relays(addrs []netip.Addr) []Relay {
	to := map[snapshot.Family]netip.Addr{}
	for _, a := range primary(addrs) {
		to[snapshot.FamilyOf(a)] = a
	}
	loopback := map[snapshot.Family]netip.Addr{snapshot.IPv4: netip.AddrFrom4([4]byte{127, 0, 0, 1}), snapshot.IPv6: netip.IPv6Loopback()}
	var out []Relay
	for _, svc := range x.public {
		for _, p := range svc.Ports {
			// A datagram has no end that a relay could pass on.
			if p.Protocol != snapshot.TCP || p.NodePort == 0 {
				continue
			}
			for _, ip := range svc.ClusterIPs {
				family := snapshot.FamilyOf(ip)
				if a, ok := to[family]; ok {
					out = append(out, Relay{Service: svc.Ref, At: netip.AddrPortFrom(loopback[family], p.NodePort), To: a})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b Relay) int { return cmp.Or(a.At.Compare(b.At), a.Service.Compare(b.Service)) })
	return out
}
