package observe

import (
	"net/netip"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Standing is how an address that a Service holds stands on the network, in one
// word.
type Standing string

// The standings. An address has one of them, the first that applies.
const (
	Conflicting Standing = "conflicting" // a foreign host has it or claims it
	Duplicated  Standing = "duplicated"  // several nodes announce it by ARP or NDP, and none of them is leaving it
	Announced   Standing = "announced"   // by one node, or over BGP by any number
	NoEndpoint  Standing = "no-endpoint" // not announced: there is nobody to answer
	Unlisted    Standing = "unlisted"    // not known: some node announces more than its NodeState lists
	Unannounced Standing = "unannounced" // by nobody, and somebody should
)

// Standings are all of them.
var Standings = []Standing{Conflicting, Duplicated, Announced, NoEndpoint, Unlisted, Unannounced}

// standing returns how a stands, which keepers nodes announce on links. With
// unlisted some node announces more than it lists.
func (a Address) standing(keepers int, unlisted bool) Standing {
	switch {
	case a.Conflict != "" || a.Finding.Claimant != "":
		return Conflicting
	case keepers > 1:
		return Duplicated
	case len(a.By) > 0:
		return Announced
	case a.Refusal.Reason == announcer.NoEndpoint:
		return NoEndpoint
	case unlisted:
		return Unlisted
	}
	return Unannounced
}

// standings counts the addresses that Services hold by how they stand.
func standings(s *snapshot.Snapshot, of map[netip.Addr]Address) map[Standing]int {
	out := map[Standing]int{}
	for _, a := range s.Addresses {
		if !a.Deleting && len(a.Holders) > 0 {
			out[of[a.Addr].Standing]++
		}
	}
	return out
}
