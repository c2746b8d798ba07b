package nodeport

import (
	"fmt"
	"net/netip"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Owned returns a Problem for each Service with a VIP among own, which are addresses
// of the node itself: the node keeps them, and does not forward there. Sorted.
func Owned(s *snapshot.Snapshot, own []netip.Addr) []snapshot.Problem {
	var out []snapshot.Problem
	for _, addr := range own {
		record := s.Address(addr)
		if record == nil || record.Deleting {
			continue
		}
		for _, h := range record.Holders {
			svc := s.Service(h.Ref)
			// A Service that was made again under the same name does not hold the address.
			if svc == nil || svc.UID != h.UID || svc.Type != snapshot.LoadBalancer || !svc.Served() {
				continue
			}
			out = append(out, snapshot.Problem{Service: svc.Ref, Reason: AddressOfNode, Message: fmt.Sprintf(
				"%s is an address of this node, which does not forward it to the Service", addr)})
		}
	}
	return SortProblems(out)
}
