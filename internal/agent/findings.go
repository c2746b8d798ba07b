package agent

import (
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// known is what there is to know of the addresses in plan: their records, and
// the MACs of all nodes of which anything was ever heard.
func known(in announcer.Input, plan announcer.Plan) l2.Known {
	k := l2.Known{Records: make(map[netip.Addr]l2.Record, len(in.Snapshot.Addresses)), Ours: map[string]bool{}}
	for _, a := range in.Snapshot.Addresses {
		k.Records[a.Addr] = l2.Record{UID: a.UID, Probed: !a.ProbedAt.IsZero(), Conflict: a.Conflict}
	}
	ours := func(st snapshot.NodeState) {
		for _, l := range st.Links {
			k.Ours[l.MAC] = true
		}
	}
	ours(in.Self)
	for _, st := range in.Others {
		ours(st)
	}
	for _, st := range in.Snapshot.NodeStates {
		ours(*st)
	}
	k.Disputed = l2.Claims(announcer.Plan{Announce: plan.Disputed})
	return k
}

// findings is what the NodeState says of them.
func findings(found []l2.Finding) []v1alpha1.AddressFinding {
	var out []v1alpha1.AddressFinding
	for _, f := range found[:min(len(found), listed)] {
		entry := v1alpha1.AddressFinding{Address: f.Addr.String(), UID: types.UID(f.UID), Conflict: f.Conflict, Claimant: f.Claimant}
		if !f.ProbedAt.IsZero() {
			entry.ProbedAt = &metav1.Time{Time: f.ProbedAt}
		}
		out = append(out, entry)
	}
	return out
}
