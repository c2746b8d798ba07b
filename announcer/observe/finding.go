package observe

import (
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// clocksDiffer is how far ahead of the controller's a node's clock may be.
const clocksDiffer = time.Minute

// undated stands for a time that has not come yet: that of a node whose clock is wrong, or
// that lies. What another node found later counts.
var undated = time.Unix(1, 0)

// findings merges what the nodes found of each address for its present record, as far as
// their word counts at now.
func findings(s *snapshot.Snapshot, said map[netip.Addr]*sayings, now time.Time) map[netip.Addr]snapshot.Finding {
	uids := make(map[netip.Addr]string, len(s.Addresses))
	for _, a := range s.Addresses {
		uids[a.Addr] = a.UID
	}
	out, ours := map[netip.Addr]snapshot.Finding{}, nodeMACs(s)
	for _, st := range s.NodeStates {
		for _, f := range st.Findings {
			// A node that was never heard by the others, nor heard them, takes them for
			// foreign hosts, and they take it for one.
			if ours[f.Claimant] {
				f.Claimant = ""
			}
			// One node could switch off an address that another one holds, without trouble.
			overruled := f.Conflict != "" && said[f.Addr].keptBeside(st.Node)
			if ours[f.Conflict] || overruled || f.ProbedAt.IsZero() && f.Claimant == "" {
				continue
			}
			if f.ProbedAt.After(now.Add(clocksDiffer)) {
				f.ProbedAt = undated
			}
			// A finding for another record was made before the address was assigned
			// again: since then the foreign host may have gone, or come.
			if f.UID == uids[f.Addr] {
				out[f.Addr] = newer(out[f.Addr], f)
			}
		}
	}
	return out
}

// nodeMACs returns the MACs of the links of all nodes.
func nodeMACs(s *snapshot.Snapshot) map[string]bool {
	out := map[string]bool{}
	for _, st := range s.NodeStates {
		for _, l := range st.Links {
			if l.MAC != "" {
				out[l.MAC] = true
			}
		}
	}
	return out
}

// newer returns was with what f adds: the last probe counts, and any claim.
func newer(was, f snapshot.Finding) snapshot.Finding {
	out := was
	out.Addr, out.UID = f.Addr, f.UID
	if f.ProbedAt.After(was.ProbedAt) {
		out.ProbedAt, out.Conflict = f.ProbedAt, f.Conflict
	}
	// Claims have no time. Those of several nodes are of the same host, or are as bad.
	if was.Claimant == "" {
		out.Claimant = f.Claimant
	}
	return out
}

// Merge returns what the record of a should say with f: when the address was
// probed, which host had it then, and the message of its condition Conflicting, ""
// if there is no conflict. What nobody probed again stays as it is.
func Merge(a *snapshot.Address, f snapshot.Finding) snapshot.Address {
	out := *a
	if !f.ProbedAt.IsZero() {
		out.ProbedAt, out.Conflict = f.ProbedAt, f.Conflict
	}
	switch {
	case out.Conflict != "":
		out.Conflicting = out.Conflict + " answers for it, which is not a node of this cluster: it is not announced"
	case f.Claimant != "":
		out.Conflicting = f.Claimant + " claims it while it is announced, and is not a node of this cluster"
	default:
		out.Conflicting = ""
	}
	return out
}
