package cluster

import (
	"net/netip"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Move is an address that another node would own.
type Move struct {
	Addr     netip.Addr
	From, To string
}

// Moves returns which addresses move if no node keeps what it has by failback: Never,
// sorted by address.
func (s *State) Moves() (out []Move) {
	in := s.Election()
	spread := *in.Snapshot
	spread.NodeStates = make([]*snapshot.NodeState, len(in.Snapshot.NodeStates))
	for i, st := range in.Snapshot.NodeStates {
		without := *st
		without.Stays = nil
		spread.NodeStates[i] = &without
	}
	in.Snapshot = &spread
	for _, r := range announcer.Decide(in).Refused {
		if was := s.Owner(r.Addr); r.Owner != "" && was != nil && was.Owner != "" && was.Owner != r.Owner {
			out = append(out, Move{r.Addr, was.Owner, r.Owner})
		}
	}
	return out
}
