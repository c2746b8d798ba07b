package nodeport

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// Claim is a port of one of the node's own addresses that a record gives to a Service.
type Claim struct {
	Service snapshot.Ref
	proxy.Target
}

// Claims returns the ports of node's own addresses that records give to Services, sorted
// by port. node may be nil.
func Claims(s *snapshot.Snapshot, node *snapshot.Node) []Claim {
	var out []Claim
	for _, a := range s.NodeAddresses {
		if node == nil || a.Node != node.Name || a.Deleting {
			continue
		}
		// The network may translate an ExternalIP into an InternalIP, so those have the ports too.
		for _, at := range a.CaughtAt(node.InternalIPs) {
			for _, h := range a.Holders {
				for _, p := range h.Ports {
					out = append(out, Claim{h.Ref, proxy.Target{Protocol: p.Protocol, Addr: netip.AddrPortFrom(at, p.Port)}})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b Claim) int { return cmp.Or(a.Target.Compare(b.Target), a.Service.Compare(b.Service)) })
	return out
}

// Listening returns those of claims, sorted, on which one of sockets listens, and a
// Problem for each. The engine leaves them to the processes of the node.
func Listening(claims []Claim, sockets []Socket) (kept []proxy.Target, problems []snapshot.Problem) {
	for _, c := range claims {
		listens := func(s Socket) bool {
			return s.Protocol == c.Protocol && s.Addr.Port() == c.Addr.Port() && s.at(c.Addr.Addr())
		}
		if !slices.ContainsFunc(sockets, listens) {
			continue
		}
		// SSH or the kubelet may be that process: the node has to stay within reach.
		kept = append(kept, c.Target)
		problems = append(problems, snapshot.Problem{Service: c.Service, Reason: PortOfNode, Message: fmt.Sprintf(
			"port %d/%s: a process of the node listens on it at %s, where the Service is not reached", c.Addr.Port(), c.Protocol, c.Addr.Addr())})
	}
	return kept, SortProblems(problems)
}
