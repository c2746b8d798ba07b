package announcer

import (
	"net/netip"
	"slices"
	"time"
)

// Linger is how long a node that hands a VIP over goes on to hold it after it
// knows of the next owner, which meanwhile learns of the same, takes the VIP over
// and says so. It is shorter than the time over which the next owner repeats
// that, so that the last word is its own.
const Linger = time.Second

// Handover keeps what a node gives away of its own free will until the next owner
// has it. The zero value keeps nothing yet.
type Handover struct {
	ends map[netip.Addr]time.Time // of what is being handed over
}

// Linger returns the VIPs of was that next gives to another node and that are to
// be held for a while yet, and when the first of them ends; at is now. speaks
// tells whether a node's agent can take something over at once: one that is silent
// for a moment and keeps what it has, cannot. A node that may not be elected itself
// gives up everything at once: give it no speaks.
func (h *Handover) Linger(was []VIP, next Plan, speaks func(node string) bool, at time.Time) (keep []VIP, until time.Time) {
	ends := map[netip.Addr]time.Time{}
	for _, v := range was {
		owner := next.owner(v.Addr)
		if speaks == nil || owner == "" {
			continue
		}
		if !speaks(owner) {
			keep = append(keep, v)
			continue
		}
		end, begun := h.ends[v.Addr]
		if !begun {
			end = at.Add(Linger)
		}
		ends[v.Addr] = end
		if !at.Before(end) {
			continue
		}
		keep = append(keep, v)
		if until.IsZero() || end.Before(until) {
			until = end
		}
	}
	h.ends = ends
	return keep, until
}

// owner returns which other node is to announce addr, "" if none is.
func (p Plan) owner(addr netip.Addr) string {
	i, ok := slices.BinarySearchFunc(p.Refused, addr, func(r Refused, a netip.Addr) int { return r.Addr.Compare(a) })
	if !ok || p.Refused[i].Reason != NotOwner {
		return ""
	}
	return p.Refused[i].Owner
}
