package agent

import (
	"net/netip"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// known is what there is to know of the addresses in plan: their records, and
// the MACs of all nodes of which anything was ever heard.
func known(in announcer.Input, plan announcer.Plan) l2.Known {
	k := l2.Known{Records: make(map[netip.Addr]l2.Record, len(in.Snapshot.Addresses)), Ours: map[string]bool{}}
	for _, a := range in.Snapshot.Addresses {
		k.Records[a.Addr] = l2.Record{UID: a.UID, Probed: !a.ProbedAt.IsZero(), Conflict: a.Conflict}
	}
	ours := func(st snapshot.Electable) {
		for _, l := range st.Links {
			k.Ours[l.MAC] = true
		}
	}
	ours(in.Self)
	for _, st := range in.Others {
		ours(st)
	}
	for _, st := range in.Snapshot.NodeStates {
		ours(st.Electable)
	}
	k.Disputed = l2.Claims(announcer.Plan{Announce: plan.Disputed})
	return k
}
