package egress

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Ports is a range of ports. The zero value is none.
type Ports struct{ First, Last uint16 }

func (p Ports) String() string { return fmt.Sprintf("%d-%d", p.First, p.Last) }

// Ranges are the Ports that outgoing connections may have, the preferred ones first. Few
// and fixed ones keep the kernel's rules constant. The large ones are first: a source port
// is used once at a time for each destination.
var Ranges = func() (out []Ports) {
	for _, size := range []int{32768, 16384} {
		for first := 65536 - size; first >= 0; first -= size {
			out = append(out, Ports{uint16(max(first, 1024)), uint16(first + size - 1)})
		}
	}
	return out
}()

// free returns the first of Ranges without any of taken, or none.
func free(taken []Ports) Ports {
	for _, r := range Ranges {
		if !slices.ContainsFunc(taken, func(p Ports) bool { return p.First <= r.Last && p.Last >= r.First }) {
			return r
		}
	}
	return Ports{}
}

// servicePorts returns the ports that Services have at vip. A connection from one of them
// could be that of a client: from the port that it sends to.
func servicePorts(s *snapshot.Snapshot, vip netip.Addr) (out []Ports) {
	a := s.Address(vip)
	if a == nil {
		return nil
	}
	for _, h := range a.Holders {
		svc := s.Service(h.Ref)
		if svc == nil || svc.UID != h.UID {
			continue
		}
		for _, p := range svc.Ports {
			out = append(out, Ports{p.Port, p.Port})
		}
		for _, r := range h.Ranges {
			out = append(out, Ports{r.First, r.Last})
		}
	}
	return out
}
