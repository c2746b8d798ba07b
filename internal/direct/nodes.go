package direct

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy/director"
)

// nodes are those that can direct, sorted by name. One that is gone is not among them:
// what is passed on to it would be lost.
func (p *Planner) nodes(in Inputs) (out []director.Node) {
	gone := map[string]time.Duration{}
	for _, m := range in.View.Members {
		if m.Node != in.Node && m.Verdict == announcer.NodeGone && m.Quarantine {
			if gone[m.Node] = in.Now; p.gone[m.Node] > 0 {
				gone[m.Node] = p.gone[m.Node]
			}
			continue
		}
		n := director.Node{Name: m.Node}
		switch {
		case m.Node == in.Node: // it has its program, or would not plan
			n.MACs = macs(in.Links)
			n.IPv4, n.IPv6 = own(Links(in.Links, in.Node, in.View))
		case p.known[m.Node] == nil || !p.known[m.Node].Able || m.Report == nil:
			continue
		default:
			n.MACs = macs(m.Report.Links)
			n.Link, n.IPv4, n.IPv6 = neighbour(in.Links, taking(m.Report.Links, p.known[m.Node]))
		}
		out = append(out, n)
	}
	p.gone = gone
	return out
}

// hold is how long the end of a walk is to drop.
func (p *Planner) hold(now time.Duration) (left time.Duration) {
	for _, since := range p.gone {
		left = max(left, GoneFor-(now-since))
	}
	return left
}

func find(nodes []director.Node, name string) (int, bool) {
	return slices.BinarySearchFunc(nodes, name, func(n director.Node, name string) int { return strings.Compare(n.Name, name) })
}

// taking are the links of a node that take what is passed on.
func taking(links []snapshot.Link, st *snapshot.DirectorState) []snapshot.Link {
	return slices.DeleteFunc(slices.Clone(links), func(l snapshot.Link) bool {
		return !slices.ContainsFunc(st.Links, func(d snapshot.DirectorLink) bool { return d.Name == l.Name })
	})
}

func macs(links []snapshot.Link) (out []director.MAC) {
	for _, l := range links {
		if mac, err := net.ParseMAC(l.MAC); err == nil && len(mac) == len(director.MAC{}) {
			out = append(out, director.MAC(mac))
		}
	}
	return out
}

// own is an address of each family that this node has on links.
func own(links []snapshot.Link) (v4, v6 netip.Addr) {
	for _, l := range links {
		for _, p := range l.Prefixes {
			switch {
			case p.Addr().Is4() && !v4.IsValid():
				v4 = p.Addr()
			case p.Addr().Is6() && !v6.IsValid():
				v6 = p.Addr()
			}
		}
	}
	return v4, v6
}

// neighbour returns this node's link that leads to a node with theirs, and the node's
// addresses there. The link is 0 if there is none.
func neighbour(ours, theirs []snapshot.Link) (link int, v4, v6 netip.Addr) {
	for _, l := range ours {
		for _, t := range theirs {
			for _, p := range t.Prefixes {
				switch {
				case !Adjacent(l, p):
				case p.Addr().Is4() && !v4.IsValid():
					link, v4 = l.Index, p.Addr()
				case p.Addr().Is6() && !v6.IsValid():
					link, v6 = l.Index, p.Addr()
				}
			}
		}
		if link != 0 {
			return link, v4, v6
		}
	}
	return 0, v4, v6
}

// Adjacent reports whether another node's address is in a prefix of a link, and the
// link's in the address's prefix. Two links with one address are no neighbours: many
// bridges of pods have the same on all nodes.
func Adjacent(l snapshot.Link, theirs netip.Prefix) bool {
	return slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool {
		return p.Addr() != theirs.Addr() && p.Masked().Contains(theirs.Addr()) && theirs.Masked().Contains(p.Addr())
	})
}

// Links are those of ours by which other nodes are reached, sorted by index.
func Links(ours []snapshot.Link, node string, v announcer.View) (out []snapshot.Link) {
	for _, l := range ours {
		for _, m := range v.Members {
			if m.Node == node || m.Report == nil {
				continue
			}
			if slices.ContainsFunc(m.Report.Links, func(t snapshot.Link) bool {
				return slices.ContainsFunc(t.Prefixes, func(p netip.Prefix) bool { return Adjacent(l, p) })
			}) {
				out = append(out, l)
				break
			}
		}
	}
	return out
}

// unsynced are the nodes whose engines are not in sync, which are to open nothing new.
func unsynced(v announcer.View) map[string]bool {
	out := map[string]bool{}
	for _, m := range v.Members {
		if m.Report != nil && !m.Report.InSync {
			out[m.Node] = true
		}
	}
	return out
}
