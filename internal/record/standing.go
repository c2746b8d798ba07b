package record

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Standing is how an address that a Service holds stands on the network.
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

func standings() string {
	names := make([]string, len(Standings))
	for i, st := range Standings {
		names[i] = string(st)
	}
	return strings.Join(names, ", ")
}

// count counts the addresses by their standing.
func (n *Network) count(s *snapshot.Snapshot) map[Standing]int {
	cut := slices.ContainsFunc(s.NodeStates, func(st *snapshot.NodeState) bool { return st.Unlisted > 0 })
	out := map[Standing]int{}
	for _, a := range s.Addresses {
		if a.Deleting || len(a.Holders) == 0 {
			continue
		}
		out[n.standing(a.Addr, cut)]++
	}
	return out
}

func (n *Network) standing(addr netip.Addr, cut bool) Standing {
	switch {
	case n.conflict[addr] != "" || n.claimant[addr] != "":
		return Conflicting
	case n.holders[addr] > 1:
		return Duplicated
	case len(n.by[addr]) > 0:
		return Announced
	case n.reason[addr] == announcer.NoEndpoint:
		return NoEndpoint
	case cut:
		return Unlisted
	}
	return Unannounced
}
