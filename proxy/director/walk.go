package director

import "slices"

// MaxHops is how often a packet is passed on at most. It is counted in the packet's TTL,
// so that it holds between nodes whose tables differ.
const MaxHops = 16

// A node that does not have a connection asks its chain who follows while the packet has
// at most byAge hops: the latest primaries have most connections. Up to byRing hops it
// asks who of its chain follows in the ring, and after that who of the others does.
//
// The place in the chain alone does not do. Where the neighbour knows one change of the
// endpoints more, all places after it are others, and the two pass over members that
// nobody asked. In a ring, which no change of endpoints moves, each of them visits what
// is left of both chains. TestWalkFindsConnections has the figures: 129 of 11,502 lost by
// places alone, 26 by this.
const (
	byAge  = 2
	byRing = 10
)

// lastHop ends a walk: one hop is left for a node that has gone lately (AskedLast).
const lastHop = MaxHops - 1

// Step is where a packet is on its way, at a node that does not have its connection.
type Step struct {
	Hash   uint64
	Hop    int // how often it was passed on: 0 at the node that it reached first
	Me     int // this node, an index of Members
	Sender int // who passed it on; -1: a host outside
}

// Walk says who gets a packet that belongs to no connection here and opens none. It
// returns false at the end of the walk: nobody has the connection, and the client is to
// be told.
func (t *Table) Walk(chains []uint16, rings *Rings, s Step) (next int, ok bool) {
	switch {
	case len(t.Members) < 2 || s.Hop >= min(lastHop, byRing+len(t.Members)):
		return 0, false
	case len(t.Primary) == 0:
		return rings.Next(s.Hash, s.Me), true
	}
	chain := chains[t.Slot(s.Hash)*Places:][:Places]
	if s.Hop <= byAge {
		if next, ok := s.byAge(chain); ok {
			return next, true
		}
	}
	return s.byRing(chain, rings, len(t.Members)), true
}

// byAge is the first of the chain that was not asked. Those are not known: a node knows
// itself, the sender, and how many came before the sender.
func (s Step) byAge(chain []uint16) (next int, ok bool) {
	before := max(s.Hop-2, 0)
	for _, m := range chain {
		switch {
		case m == NoMember, int(m) == s.Me, int(m) == s.Sender:
		case before > 0:
			before--
		default:
			return int(m), true
		}
	}
	return 0, false
}

// byRing is who follows in the ring, of those in the chain or of the others. If all
// members are in the chain, it is who follows.
func (s Step) byRing(chain []uint16, rings *Rings, members int) int {
	next := rings.Next(s.Hash, s.Me)
	if members <= Places {
		return next
	}
	for range members {
		if next != s.Me && slices.Contains(chain, uint16(next)) == (s.Hop <= byRing) {
			break
		}
		next = rings.Next(s.Hash, next)
	}
	return next
}
