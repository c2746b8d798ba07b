package announcer

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Protocol is the version of the gossip that agents of this release speak.
const Protocol = 2

// maxStays is how many bytes the addresses take on the wire that one node stays with, at
// most: 2,400 of IPv4 or 705 of IPv6. The rest follow the ranking.
const maxStays = 12_000

// stayers returns which contenders say that they stay with an address, by index. It is nil
// while an agent of version 0.1 may be elected: that one knows the ranking alone, and all
// elections have to agree.
func stayers(nodes []contender) map[netip.Addr][]int {
	var out map[netip.Addr][]int
	for i, n := range nodes {
		switch {
		// An agent of version 0.1 that cannot be elected does not keep the others from staying.
		case n.unfit != "":
			continue
		case n.state.Protocol < Protocol:
			return nil
		}
		for _, addr := range n.state.Stays {
			if out == nil {
				out = map[netip.Addr][]int{}
			}
			out[addr] = append(out[addr], i)
		}
	}
	return out
}

// stays reports whether the contender at i has the address and keeps it.
func (b *ballot) stays(i int) bool {
	return slices.Contains(b.stayers[b.addr.Addr], i) && b.never(i)
}

// never reports whether the contender at i keeps the address once it has it.
func (b *ballot) never(i int) bool {
	return slices.ContainsFunc(b.rules, func(r *rule) bool { return r.FailbackNever && r.selects[i] })
}

// mayStay reports whether the contender at i, the owner, has to say that it stays: it keeps
// the address, and another node may come before it one day.
func (b *ballot) mayStay(i int) bool {
	// Nobody comes before the preferred node: it need not take up room in its report.
	return b.never(i) && (b.weighted || b.siblings(b.addr) != nil || int(b.ranking(b.addr.Addr)[0]) != i)
}

// drains reports whether the contender at i hands the address over.
func (b *ballot) drains(i int) bool {
	var on snapshot.DrainCauses
	for _, r := range b.rules {
		if r.selects[i] {
			on |= cmp.Or(r.DrainOn, snapshot.DrainByDefault)
		}
	}
	return b.nodes[i].state.Drains(cmp.Or(on, snapshot.DrainByDefault))
}

// Told returns those of addrs that a report has room for.
func Told(addrs []netip.Addr) []netip.Addr {
	size := 0
	for i, a := range addrs {
		if size += 1 + a.BitLen()/8; size > maxStays {
			return addrs[:i:i]
		}
	}
	return addrs
}
