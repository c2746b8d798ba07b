package direct

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/director"
)

// absence is a node that is gone.
type absence struct {
	node  director.Node // as it was before
	since time.Duration
}

// nodes are all that packets may be for, sorted by name. One that is gone is asked last for
// a while, and is not among them after that.
func (p *Planner) nodes(in Inputs) (out []director.Node) {
	here, gone := map[string]director.Node{}, map[string]director.Node{}
	me := director.Node{Name: in.Node, MACs: macs(in.Links)}
	me.IPv4, me.IPv6 = own(Links(in.Links, in.Node, in.View))
	families := families(in.Table)
	for _, m := range in.View.Members {
		n := p.node(in, m, me, families)
		// Where most nodes vanished at once the network broke, and nothing is quarantined: their pods may run.
		if m.Node != in.Node && m.Verdict == announcer.NodeGone && m.Quarantine {
			gone[m.Node] = n
			continue
		}
		here[m.Node] = n
		out = append(out, n)
	}
	for name, n := range p.here { // a Node that is deleted
		if _, stays := here[name]; !stays && in.View.Member(name) == nil {
			gone[name] = n
		}
	}
	p.here, p.gone = here, p.absences(here, gone, in.Now)
	for _, a := range p.gone {
		if a.node.Part == director.Takes && in.Now-a.since < GoneFor {
			a.node.Part = director.AskedLast
			out = append(out, a.node)
		}
	}
	out = p.others(in.Table, out)
	slices.SortFunc(out, func(a, b director.Node) int { return strings.Compare(a.Name, b.Name) })
	if i, known := find(out, in.Node); known {
		out[i].Addrs = p.ends(in.Node, out)
	}
	return out
}

// absences are those of gone, and those before that no plan has seen since.
func (p *Planner) absences(here, gone map[string]director.Node, now time.Duration) map[string]absence {
	out := map[string]absence{}
	for name, a := range p.gone {
		_, back := here[name]
		_, still := gone[name]
		if !back && (still || now-a.since < GoneFor) {
			out[name] = a
		}
	}
	for name, n := range gone {
		if _, had := out[name]; !had {
			out[name] = absence{n, now}
		}
	}
	return out
}

// families are those of the VIPs that are directed.
func families(t *proxy.Table) map[snapshot.Family]bool {
	out := map[snapshot.Family]bool{}
	for _, f := range t.Frontends {
		if f.Directed {
			out[f.Family] = true
		}
	}
	return out
}

// node is a member as this node, me, reaches it: on a link, or in another subnet. It takes part
// if it is able, and is reached by each of families.
func (p *Planner) node(in Inputs, m announcer.Member, me director.Node, families map[snapshot.Family]bool) director.Node {
	if m.Node == in.Node { // it has its program, or would not plan
		return me
	}
	n, st := director.Node{Name: m.Node, Part: director.Apart}, p.known[m.Node]
	if st == nil || m.Report == nil {
		return n
	}
	theirs := far(in.Links, m.Report, st)
	n.MACs = macs(theirs)
	n.Link, n.IPv4, n.IPv6 = neighbour(in.Links, taking(theirs, st))
	lacks := families[snapshot.IPv4] && !n.IPv4.IsValid() || families[snapshot.IPv6] && !n.IPv6.IsValid()
	if n.Link == 0 || lacks {
		if in.Ways != nil { // it may have a way here, without one back
			n.Addrs = sources(st.Links)
		}
		if link, v4, v6, w := way(in.Ways, st.Links, families); link != 0 {
			n.Link, n.IPv4, n.IPv6, n.Way = link, v4, v6, w
			lacks = false
		}
	}
	if st.Able && !in.Alone && n.Link != 0 && !lacks {
		n.Part = director.Takes
	}
	return n
}

// others adds what has endpoints and is not a member that this node knows, to nodes.
func (p *Planner) others(t *proxy.Table, nodes []director.Node) []director.Node {
	known := map[string]bool{}
	for _, n := range nodes {
		known[n.Name] = true
	}
	for _, f := range t.Frontends {
		for _, n := range f.Nodes {
			if _, gone := p.gone[n.Node]; !known[n.Node] && !gone {
				known[n.Node] = true
				nodes = append(nodes, director.Node{Name: n.Node, Part: director.Apart})
			}
		}
	}
	return nodes
}

// hold is how long the end of a walk is to drop.
func (p *Planner) hold(now time.Duration) (left time.Duration) {
	for _, a := range p.gone {
		left = max(left, GoneFor-(now-a.since))
	}
	return left
}

func find(nodes []director.Node, name string) (int, bool) {
	return slices.BinarySearchFunc(nodes, name, func(n director.Node, name string) int { return strings.Compare(n.Name, name) })
}

// far are the links of another node: those that its report lists, and those that its
// director has besides. For a minute after a failure of a link, the report leaves that link
// out, so that it is not elected there. Its connections must not wait as long.
func far(ours []snapshot.Link, r *announcer.Report, d *snapshot.DirectorState) []snapshot.Link {
	out := slices.Clip(r.Links)
	if d == nil {
		return out
	}
	for _, l := range d.Links {
		if !slices.ContainsFunc(r.Links, func(t snapshot.Link) bool { return t.Name == l.Name }) {
			out = append(out, unlisted(ours, l))
		}
	}
	return out
}

// unlisted is a link that only a director speaks of. Nobody says how long its prefixes are:
// they are taken to be as long as ours that have its addresses.
func unlisted(ours []snapshot.Link, d snapshot.DirectorLink) snapshot.Link {
	out := snapshot.Link{Name: d.Name, MAC: d.MAC}
	for _, a := range d.Addrs {
		for _, l := range ours {
			for _, p := range l.Prefixes {
				if p.Contains(a) && !a.IsLinkLocalUnicast() { // which every link has
					out.Prefixes = append(out.Prefixes, netip.PrefixFrom(a, p.Bits()))
				}
			}
		}
	}
	return out
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
// link's in the address's prefix. Two links with one address are not neighbours: many
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
			if slices.ContainsFunc(far(ours, m.Report, m.Report.Director), func(t snapshot.Link) bool {
				return slices.ContainsFunc(t.Prefixes, func(p netip.Prefix) bool { return Adjacent(l, p) })
			}) {
				out = append(out, l)
				break
			}
		}
	}
	return out
}

// Peer is another node on a link of this one.
type Peer struct {
	Link       int // index of this node's link
	MAC        net.HardwareAddr
	IPv4, IPv6 netip.Addr // not valid: it has none on that link
}

// Peers are the other nodes on links, which are ours: once for each link of theirs that is
// in the network of one of ours.
func Peers(links []snapshot.Link, node string, v announcer.View) (out []Peer) {
	for _, l := range links {
		for _, m := range v.Members {
			if m.Node == node || m.Report == nil {
				continue
			}
			for _, theirs := range far(links, m.Report, m.Report.Director) {
				index, v4, v6 := neighbour([]snapshot.Link{l}, []snapshot.Link{theirs})
				if mac, err := net.ParseMAC(theirs.MAC); err == nil && index != 0 {
					out = append(out, Peer{Link: index, MAC: mac, IPv4: v4, IPv6: v6})
				}
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
