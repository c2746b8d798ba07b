package doctor

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/snapshot"
)

func pool(name string) Object { return Object{Resource: "addresspool.fairlead.io", Name: name} }

func service(r snapshot.Ref) Object {
	return Object{Resource: "service", Namespace: r.Namespace, Name: r.Name}
}

// pools are the AddressPools that give nothing, or little more.
func pools(s *cluster.State) (out []Finding) {
	if len(s.Pools) == 0 && !s.FromFiles {
		return []Finding{find(NoPool, Object{}, "make one with addresses of the nodes' network that nothing else uses; docs/troubleshooting.md shows it",
			"there is no AddressPool: Services of type LoadBalancer get no address")}
	}
	for _, p := range allocator.Decide(s.Snapshot, s.Allocation).Pools {
		edit := "kubectl edit addresspool " + p.Name
		switch snapshot.Reason(p.Ready.Reason) {
		case allocator.PoolInvalid:
			out = append(out, find(PoolInvalid, pool(p.Name), edit+": write CIDRs, ranges FROM-TO or single addresses", "pool %s gives nothing: %s", p.Name, p.Ready.Message))
			continue
		case allocator.PoolConflicting:
			out = append(out, find(PoolOverlap, pool(p.Name), edit+": take out what overlaps", "pool %s gives nothing: it %s", p.Name, p.Conflicting.Message))
			continue
		case allocator.PoolDisabled:
			continue // as its owner wants it
		}
		if p.Conflicting.Status == "True" {
			out = append(out, find(PoolSkips, pool(p.Name), edit+": take out the addresses of nodes", "pool %s %s", p.Name, p.Conflicting.Message))
		}
		if p.Prefix.Status == "False" && p.Prefix.Reason != string(allocator.PrefixChanging) && len(s.NodeStates) > 0 && !s.FromFiles {
			out = append(out, find(NoPrefix, pool(p.Name), "kubectl get nodestates -o custom-columns=NODE:.metadata.name,SEES:.status.prefixes; docs/dynamic.md says what each case needs",
				"pool %s has no prefix that the nodes agree on. %s: %s", p.Name, p.Prefix.Reason, p.Prefix.Message))
		}
		if p.Leasing.Status == "False" && !s.FromFiles {
			out = append(out, find(NoLease, pool(p.Name), "kubectl get addresspool "+p.Name+" -o yaml shows each lease in status.leases; docs/dynamic.md says what each case needs",
				"pool %s lacks leases: %s", p.Name, p.Leasing.Message))
		}
		out = append(out, fill(p)...)
		out = append(out, reachable(s, s.Pool(p.Name))...)
	}
	return out
}

// nearlyFull is the part of a pool, in percent, from which on it is told.
const nearlyFull = 90

func fill(p allocator.PoolOutcome) (out []Finding) {
	for _, f := range []struct {
		family string
		snapshot.PoolCount
	}{{"IPv4", p.Status.IPv4}, {"IPv6", p.Status.IPv6}} {
		if f.Total > 1 && f.Free <= f.Total*(100-nearlyFull)/100 {
			out = append(out, find(PoolFull, pool(p.Name), "add addresses to it (kubectl edit addresspool "+p.Name+") or make another pool",
				"pool %s has %d of %d %s addresses left", p.Name, f.Free, f.Total, f.family))
		}
	}
	return out
}

// reachable tells of a pool that no node could announce by ARP or NDP. Pools that
// an Announcement selects may be announced otherwise.
func reachable(s *cluster.State, p *snapshot.Pool) []Finding {
	if p == nil || len(p.Ranges) == 0 || len(s.NodeStates) == 0 || s.FromFiles {
		return nil
	}
	for _, an := range s.Announcements {
		if an.PoolSelector.Matches(p.Labels) && (!an.L2 || len(an.Interfaces) > 0) {
			return nil
		}
	}
	for _, r := range p.Ranges {
		for _, n := range s.NodeStates {
			if slices.ContainsFunc(n.Links, func(l snapshot.Link) bool { return l.Contains(r.From()) || l.Contains(r.To()) }) {
				return nil
			}
		}
	}
	return []Finding{find(OutsideNetworks, pool(p.Name),
		"use addresses of a network that the nodes are in, or make an Announcement that names a link exactly, or one for BGP",
		"no node has a link in the network of pool %s, so nobody can announce its addresses", p.Name)}
}

// services are those of ours that get no address, or nobody to answer there.
func services(s *cluster.State) (out []Finding) {
	for _, o := range allocator.Decide(s.Snapshot, s.Allocation).Services {
		svc := s.Service(o.Ref)
		if svc.Deleting {
			continue
		}
		why := "fairlead explain " + o.Ref.String()
		switch {
		case o.Refusal != nil && len(o.Addrs) == 0 && o.Refusal.Reason == allocator.NoPool && len(s.Pools) == 0:
		case o.Refusal != nil && len(o.Addrs) == 0:
			out = append(out, find(NoAddress, service(o.Ref), why, "Service %s gets no address: %s", o.Ref, o.Refusal))
		case o.Refusal != nil:
			out = append(out, find(NotAsAsked, service(o.Ref), why, "Service %s keeps %s, but not what it asks for: %s", o.Ref, texts(o.Addrs), o.Refusal))
		}
		for _, w := range o.Warnings {
			if w.Reason == allocator.OutsidePools || w.Reason == allocator.NotSelected {
				out = append(out, find(NotAsAsked, service(o.Ref), why, "Service %s: %s", o.Ref, w))
			}
		}
		for _, r := range svc.SourceRanges {
			if _, ok := snapshot.ParsePrefix(strings.TrimSpace(r)); !ok {
				out = append(out, find(BadSources, service(o.Ref), "kubectl -n "+o.Ref.Namespace+" edit service "+o.Ref.Name+": write CIDRs",
					"Service %s: %q in spec.loadBalancerSourceRanges is not a CIDR and lets nobody in", o.Ref, r))
			}
		}
	}
	return out
}

func texts(list []netip.Addr) string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return strings.Join(out, ", ")
}

// announced compares who is to announce each address with who does.
func announced(s *cluster.State) (out []Finding) {
	for _, o := range s.Owners() {
		i := slices.IndexFunc(s.Addresses, func(a *snapshot.Address) bool { return a.Addr == o.Addr })
		if i < 0 {
			continue
		}
		out = append(out, address(s, s.Addresses[i], o)...)
	}
	for _, n := range s.NodeStates {
		for _, p := range n.Problems {
			out = append(out, find(NodePortTrouble, service(p.Service), "fairlead explain "+p.Service.String(), "Service %s on node %s: %s: %s", p.Service, n.Node, p.Reason, p.Message))
		}
	}
	return out
}

// address is announced over one address.
func address(s *cluster.State, a *snapshot.Address, owner announcer.Refused) []Finding {
	ref := a.Holders[0].Ref
	about, why := service(ref), "fairlead explain "+ref.String()
	by := s.Announcers(a.Addr)
	switch {
	case owner.Reason == announcer.NoEndpoint:
		return []Finding{find(NoEndpoint, about, why, "Service %s holds %s and has no ready endpoint, so nobody announces it", ref, a.Addr)}
	case a.Conflict != "":
		return []Finding{find(Duplicate, about, "find the host with this MAC address and take the address from it; or take the address out of the pool, so that the Service asks for another",
			"a foreign host with the MAC address %s answers for %s of Service %s", a.Conflict, a.Addr, ref)}
	case len(by) == 0 && owner.Owner == "":
		return []Finding{find(NotAnnounced, about, why, "nobody announces %s of Service %s: %s", a.Addr, ref, owner.Refusal)}
	case len(by) == 0:
		return []Finding{find(NotAnnounced, about, why, "nobody announces %s of Service %s: node %s is elected and does not", a.Addr, ref, owner.Owner)}
	}
	var nodes []string
	for _, b := range by {
		if b.Link != "" && !b.Leaving && !slices.Contains(nodes, b.Agent.Node) {
			nodes = append(nodes, b.Agent.Node)
		}
	}
	if len(nodes) > 1 {
		return []Finding{find(TwoAnnouncers, about, "look again in half a minute: while an address moves, two nodes may announce it; if it stays, see whether those nodes reach each other",
			"%s of Service %s is announced by %s", a.Addr, ref, few(nodes))}
	}
	if len(nodes) == 0 {
		return nil
	}
	return parted(s, a, nodes[0])
}

// parted is of each Service that shares an address with others whose pods are elsewhere, so
// that node, which announces the address, does not serve it.
func parted(s *cluster.State, a *snapshot.Address, node string) (out []Finding) {
	for _, ref := range announcer.Parted(s.Snapshot, announcer.Holders(s.Snapshot, a), a.Addr, node) {
		out = append(out, find(NotAnnounced, service(ref), "have the pods of the Services that share the address on one node, for example by a podAffinity",
			"%s of Service %s is announced by %s, which has no ready endpoint of it: its externalTrafficPolicy is Local, and no node has endpoints of all Services that share the address", a.Addr, ref, node))
	}
	return out
}
