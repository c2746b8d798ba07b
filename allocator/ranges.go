package allocator

import (
	"github.com/fairlead/fairlead/internal/snapshot"
)

// ranged reports whether the one holder of s has ranges of ports there.
func (s *slot) ranged() bool { return len(s.holders) == 1 && len(s.holders[0].ranges) > 0 }

// rangesOf returns the ranges of ports that svc, a holder of s, has there. On an address
// that it shares it has none: another holder may have any of these ports, or get it.
func (s *slot) rangesOf(svc *service) []snapshot.PortRange {
	if !s.ranged() {
		return nil
	}
	return svc.ranges
}

// noRanges refuses ranges of ports at the nodes' own addresses.
func noRanges() *snapshot.Refusal {
	return refuse(PortOfNode, "%s needs an address of the Service's own: nodes have ports for themselves", AnnotationPorts)
}

// refuseRanges says to the Services that ask for ranges of ports and share an address that
// they do not get them there. All else stays as it is.
func (d *decision) refuseRanges() {
	for _, svc := range d.ranked {
		if svc.refusal != nil || len(svc.ranges) == 0 {
			continue
		}
		if svc.nodePool != nil {
			svc.refusal = noRanges()
		}
		for _, s := range svc.held {
			if len(s.holders) > 1 && svc.refusal == nil {
				svc.refusal = refuse(ShareRefused, "%s needs an address that the Service does not share, and it shares %s with %s", AnnotationPorts, s.addr, s.other(svc))
			}
		}
	}
}

// other returns the holder of s beside svc whose name sorts first.
func (s *slot) other(svc *service) snapshot.Ref {
	var least snapshot.Ref
	for _, o := range s.holders {
		if o != svc && (least == (snapshot.Ref{}) || o.Ref.Compare(least) < 0) {
			least = o.Ref
		}
	}
	return least
}
