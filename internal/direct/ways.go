package direct

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy/director"
)

// Way leads to an address of a node of another subnet.
type Way struct {
	Link int        // index of this node's link that the route takes
	From netip.Addr // this node's address there
	MTU  int        // of the route
}

// LeastInside is the MTU that each network has for IPv6 (RFC 8200, section 5). Nothing that is
// narrower carries it behind another header.
const LeastInside = 1280

// way returns how packets of both families get to a node that has these links, and its
// addresses at the end. The link is 0 if they do not: a family that VIPs have needs a way, and
// all ways of a node take one link.
func way(ways map[netip.Addr]Way, theirs []snapshot.DirectorLink, families map[snapshot.Family]bool) (link int, v4, v6 netip.Addr, w director.Way) {
	for _, l := range theirs {
		for _, a := range l.Addrs {
			to, known := ways[a]
			if !known || to.MTU < LeastInside+Header(a) || link != 0 && to.Link != link {
				continue
			}
			switch {
			case a.Is4() && !v4.IsValid():
				v4, w.IPv4 = a, to.From
			case a.Is6() && !v6.IsValid():
				v6, w.IPv6 = a, to.From
			default:
				continue
			}
			if link = to.Link; w.MTU == 0 || to.MTU < w.MTU {
				w.MTU = to.MTU
			}
		}
	}
	if families[snapshot.IPv4] && !v4.IsValid() || families[snapshot.IPv6] && !v6.IsValid() {
		return 0, netip.Addr{}, netip.Addr{}, director.Way{}
	}
	return link, v4, v6, w
}

// Header is how many bytes the director's header takes in front of a packet to an address.
func Header(a netip.Addr) int {
	if a.Is4() {
		return director.Header4
	}
	return director.Header6
}

// sources are the addresses that a node with these links may send from, sorted.
func sources(links []snapshot.DirectorLink) (out []netip.Addr) {
	for _, l := range links {
		for _, a := range l.Addrs {
			if !a.IsLinkLocalUnicast() {
				out = append(out, a)
			}
		}
	}
	return sorted(out)
}

// ends are this node's addresses to which nodes of other subnets send, sorted: those that it told
// them; none where there are no such nodes.
func (p *Planner) ends(node string, nodes []director.Node) []netip.Addr {
	st := p.known[node]
	if st == nil || !slices.ContainsFunc(nodes, func(n director.Node) bool { return len(n.Addrs) > 0 }) {
		return nil
	}
	return sources(st.Links)
}

// Distant are the addresses of other nodes that are in no network of ours, and whether the node's
// agent speaks: those that the cluster has for them, and those of links that take what is passed
// on. A family in which the node is a neighbour needs none.
func (p *Planner) Distant(s *snapshot.Snapshot, ours []snapshot.Link, node string, v announcer.View) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, m := range v.Members {
		n := s.Node(m.Node)
		if m.Node == node || m.Report == nil || n == nil {
			continue
		}
		// An agent that starts does not say it at once, and the ways to its node stay.
		st := cmp.Or(m.Report.Director, p.known[m.Node], &snapshot.DirectorState{})
		_, v4, v6 := neighbour(ours, far(ours, m.Report, st))
		near := map[bool]bool{false: v4.IsValid(), true: v6.IsValid()}
		for _, a := range append(sources(st.Links), n.InternalIPs...) {
			if !near[a.Is6()] && !slices.ContainsFunc(ours, func(l snapshot.Link) bool { return l.Contains(a) }) {
				out[a] = m.Verdict == announcer.Alive
			}
		}
	}
	return out
}

// Senders are the addresses from which nodes of other subnets may send to this one, sorted.
func Senders(st *director.State) (out []netip.Addr) {
	for _, n := range st.Nodes {
		if n.Name != st.Me {
			out = append(out, n.Addrs...)
		}
	}
	return sorted(out)
}

// Reached are the nodes of other subnets to which this node passes packets on, sorted.
func Reached(st *director.State) (out []string) {
	for _, n := range st.Nodes {
		if n.Way.MTU > 0 && n.Part == director.Takes {
			out = append(out, n.Name)
		}
	}
	return out
}

// Missing are the nodes of other subnets to which no way is known, sorted.
func Missing(st *director.State) (out []string) {
	for _, n := range st.Nodes {
		if n.Name != st.Me && len(n.Addrs) > 0 && n.Way.MTU == 0 {
			out = append(out, n.Name)
		}
	}
	return out
}

func sorted(list []netip.Addr) []netip.Addr {
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}
