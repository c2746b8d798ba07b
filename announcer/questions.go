package announcer

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Question is where the kernel of another node can be asked whether it is there.
type Question struct {
	Node string
	Link string     // of this node
	Far  string     // the node's own name of that link
	From netip.Addr // of this node's link
	To   netip.Addr // of the node, in a prefix that both have
	MAC  string     // of the node's link
}

// Reach is what this node knows by asking the kernels of other nodes on links.
type Reach struct {
	// Lost names, by node, its links on which it does not answer: two nodes agree. The node
	// itself may be among them.
	Lost map[string][]string
	// Returns counts how often a node that was lost answered again. Meanwhile it may have
	// announced what this node holds.
	Returns uint64
}

// Without returns in without the links that are lost.
func (r Reach) Without(in Input) Input {
	if len(r.Lost) == 0 {
		return in
	}
	// The lost node has to elect as the others do, or two nodes would own its addresses.
	in.Self = r.reachable(in.Self)
	others := make(map[string]snapshot.Electable, len(in.Others))
	for node, st := range in.Others {
		others[node] = r.reachable(st)
	}
	in.Others = others
	return in
}

func (r Reach) reachable(st snapshot.Electable) snapshot.Electable {
	if lost := r.Lost[st.Node]; len(lost) > 0 {
		st.Links = slices.DeleteFunc(slices.Clone(st.Links), func(l snapshot.Link) bool { return slices.Contains(lost, l.Name) })
	}
	return st
}

// Watching is what this node has to know to watch others.
type Watching struct {
	Links []snapshot.Link // of this node: those with other nodes on them, and those of Listen
	Ask   []Question      // sorted by node, then link
	Nodes map[string]string
	// Listen names, sorted, the links on which this node has to prove that it hears before it
	// takes what it waits for.
	Listen []string
}

// ListenOn makes names those of w.Listen. The links are among own, this node's.
func (w *Watching) ListenOn(names []string, own []snapshot.Link) {
	w.Listen = names
	for _, l := range own {
		known := func(o snapshot.Link) bool { return o.Name == l.Name }
		// A node that booted deaf knew no other node, so it did not listen at all, and took every address
		// (TestPartialFailures in internal/agent).
		if slices.Contains(names, l.Name) && !slices.ContainsFunc(w.Links, known) {
			w.Links = append(w.Links, l)
		}
	}
}

// WatchedBy returns the owners that node watches: of the addresses whose heir it is, or
// that have too few heirs.
func (p Plan) WatchedBy(node string) map[string]bool {
	owners := map[string]bool{}
	for i := range p.Refused {
		// It takes two to agree: where too few can be elected, all watch.
		if r := &p.Refused[i]; len(r.Heirs) < mostHeirs || slices.Contains(r.Heirs, node) {
			owners[r.Owner] = true
		}
	}
	return owners
}

// NewWatching returns whom to watch: the nodes of owners, see Plan.WatchedBy, the nodes whose
// agents are silent, and those that do not answer on a link: nobody else finds out when these
// answer again. It asks each on every link that both have. Nodes names the node of each MAC
// on these links.
func NewWatching(in Input, v View, owners map[string]bool, reach Reach) Watching {
	w := Watching{Nodes: map[string]string{}}
	watched := map[string]bool{}
	maps.Copy(watched, owners)
	for _, m := range v.Members {
		// A lost node owns nothing. Once nobody watched it, it counted as well after 20 ms, and its
		// addresses had no answer for as long as its link was dead.
		watched[m.Node] = watched[m.Node] || m.Verdict != Alive || len(reach.Lost[m.Node]) > 0
	}
	shared := map[string]bool{}
	for _, n := range in.Snapshot.Nodes {
		st := in.state(n.Name)
		if n.Name == in.Node || st == nil {
			continue
		}
		for _, q := range questions(in.Self.Links, st) {
			shared[q.Link], w.Nodes[q.MAC] = true, q.Node
			if watched[q.Node] {
				w.Ask = append(w.Ask, q)
			}
		}
	}
	for _, l := range in.Self.Links {
		if shared[l.Name] {
			w.Links = append(w.Links, l)
		}
	}
	return w
}

// questions returns where st's node can be asked from links: once for each of links, by
// the first prefix that both ends have.
func questions(links []snapshot.Link, st *snapshot.Electable) (out []Question) {
	for _, near := range links {
		for _, far := range st.Links {
			if q, ok := question(near, far); ok && far.MAC != "" && near.MAC != "" {
				q.Node = st.Node
				out = append(out, q)
				break
			}
		}
	}
	slices.SortFunc(out, func(a, b Question) int { return strings.Compare(a.Link, b.Link) })
	return out
}

func question(near, far snapshot.Link) (Question, bool) {
	for _, a := range near.Prefixes {
		if a.Addr().IsLinkLocalUnicast() {
			continue // which every link has, whatever it is connected with
		}
		for _, b := range far.Prefixes {
			if a.Masked() == b.Masked() && a.Addr() != b.Addr() {
				return Question{Link: near.Name, Far: far.Name, From: a.Addr(), To: b.Addr(), MAC: far.MAC}, true
			}
		}
	}
	return Question{}, false
}

// FarName returns how node names the link that this node, whose links are links, knows as
// link; "" if v does not show.
func FarName(links []snapshot.Link, v View, node, link string) string {
	m := v.Member(node)
	if node == v.Node {
		return link
	}
	if m == nil || m.Report == nil {
		return ""
	}
	for _, q := range questions(links, &m.Report.Electable) {
		if q.Link == link {
			return q.Far
		}
	}
	return ""
}
