package page

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/doctor"
	"github.com/fairlead/fairlead/internal/cli/explain"
	"github.com/fairlead/fairlead/internal/cli/status"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// sinces is when each address began to be announced where it is, by address.
func sinces(s *cluster.State) map[string]time.Time {
	out := map[string]time.Time{}
	for _, a := range s.Heard() {
		for _, v := range a.Announces {
			if key := v.Addr.String(); v.Since.After(out[key]) && !v.Leaving {
				out[key] = v.Since
			}
		}
	}
	return out
}

// Nodes lists the agents.
func Nodes(s *cluster.State, at int) Page {
	r := status.Of(s)
	from, to, links := paged(len(r.Agents), at, "/nodes", "")
	var rows []line
	for _, a := range r.Agents[from:to] {
		rows = append(rows, row(g.Group{good(a.Good()), link(toNode(a.Node), a.Node)}, text(a.State()), text(a.Engine), text(a.Version), g.Text(a.RenewedAgo), g.Text(fmt.Sprint(a.Announces)), text(a.LocalPodsShort)))
	}
	var without []g.Node
	for _, n := range s.Nodes {
		if s.NodeState(n.Name) == nil && len(without) < perPage {
			without = append(without, again(toNode(n.Name), n.Name))
		}
	}
	return Page{Title: "Nodes", Said: cluster.Count(len(r.Agents), "node"), Live: g.Group{
		h.H1(g.Text("Nodes")), gaps(s),
		section("agents", "Agents", links, table("Agents", []string{"Node", "State", "Engine", "Version", "Renewed", "Announces", "Local pods by"}, rows)),
		g.If(len(without) > 0, section("without", "Nodes without an agent", h.P(each(without)))),
		peers(r),
	}}
}

func peers(r status.Report) g.Node {
	if len(r.Peers) == 0 {
		return nil
	}
	var rows []line
	for _, p := range r.Peers {
		rows = append(rows, row(g.Group{good(p.Good), name(p.Name)}, text(p.Address), g.Text(fmt.Sprint(p.ASN)), text(p.State)))
	}
	return section("peers", "BGP peers", table("BGP peers", []string{"Name", "Address", "ASN", "State"}, rows))
}

// Node shows all that one node says of itself.
func Node(s *cluster.State, node string) Page {
	st := s.NodeState(node)
	if st == nil && s.Node(node) == nil {
		return NotFound("There is no node " + node + ".")
	}
	found := slices.DeleteFunc(doctor.Cluster(s), func(f doctor.Finding) bool {
		return f.Object.Resource != "node" || f.Object.Name != node
	})
	var wrong []g.Node
	for _, f := range found {
		wrong = append(wrong, finding(f))
	}
	p := Page{Title: node, Said: cluster.Count(len(found), "finding")}
	live := g.Group{h.H1(name(node)), gaps(s), g.If(len(wrong) > 0, section("wrong", "What is wrong", h.Ul(append(wrong, h.Class("findings"))...)))}
	if st == nil {
		live = append(live, h.P(good(false), g.Text("The node has no agent.")))
	} else {
		live = append(live, agent(s, st), word(s, st), sessions(st), links(st), announces(s, st), conditions(st))
	}
	p.Live = live
	return p
}

func agent(s *cluster.State, st *snapshot.NodeState) g.Node {
	r := status.Of(s)
	i := slices.IndexFunc(r.Agents, func(a status.Agent) bool { return a.Node == st.Node })
	a := r.Agents[i]
	return section("agent", "Agent", facts(
		fact("State", g.Group{good(a.Good()), text(a.State())}), fact("Engine", text(a.Engine)), fact("Version", text(a.Version)),
		fact("Renewed", g.Text(a.RenewedAgo+" ago")), fact("Forwards", g.Text(fmt.Sprintf("%d Services, %d endpoints", a.Services, a.Endpoints))),
		g.If(st.Engine.Message != "", fact("Engine says", text(st.Engine.Message))),
		g.If(a.Unaccelerated != "", fact("eBPF", text(a.Unaccelerated))),
		g.If(a.LocalPods != "", fact("Local pods by", text(a.LocalPods)))))
}

func links(st *snapshot.NodeState) g.Node {
	var rows []line
	for _, l := range st.Links {
		var prefixes []string
		for _, p := range l.Prefixes {
			prefixes = append(prefixes, p.String())
		}
		rows = append(rows, row(name(l.Name), text(l.MAC), text(strings.Join(prefixes, ", "))))
	}
	return section("links", "Links", table("Links", []string{"Link", "MAC", "Addresses"}, rows))
}

func announces(s *cluster.State, st *snapshot.NodeState) g.Node {
	var rows, no []line
	for _, v := range st.Announces[:min(perPage, len(st.Announces))] {
		on, age := "on "+v.Link, "-"
		if v.Link == "" {
			on = "by BGP to " + cluster.Count(v.Peers, "peer")
		}
		if v.Leaving {
			on += ", hands it over"
		}
		if !v.Since.IsZero() {
			age = cluster.Ago(s.Now, v.Since)
		}
		rows = append(rows, row(link(toAddress(v.Addr.String()), v.Addr.String()), text(on), serviceNamed(v.Service), g.Text(age)))
	}
	for _, r := range st.Refused[:min(perPage, len(st.Refused))] {
		no = append(no, row(again(toAddress(r.Addr.String()), r.Addr.String()), text(r.Refusal.String())))
	}
	left := len(st.Announces) + st.Unlisted - len(rows)
	return g.Group{
		section("announces", "Announces", table("Addresses that it announces", []string{"Address", "How", "Service", "Since"}, rows), g.If(left > 0, h.P(g.Text(fmt.Sprintf("and %d more", left))))),
		g.If(len(no) > 0, section("refuses", "Does not announce", table("Addresses that it does not announce", []string{"Address", "Why"}, no))),
	}
}

func sessions(st *snapshot.NodeState) g.Node {
	if len(st.Peers) == 0 {
		return nil
	}
	var rows []line
	for _, p := range st.Peers {
		rows = append(rows, row(g.Group{good(p.Established()), name(p.Name)}, text(p.Address), text(p.State), g.Text(fmt.Sprint(p.Prefixes)), text(p.BFD), text(p.LastError)))
	}
	return section("sessions", "BGP sessions", table("BGP sessions", []string{"Peer", "Address", "State", "Prefixes", "BFD", "Last error"}, rows))
}

func conditions(st *snapshot.NodeState) g.Node {
	var rows []line
	for _, kind := range slices.Sorted(maps.Keys(st.Conditions)) {
		c := st.Conditions[kind]
		m := map[string]explain.Mark{"True": explain.OK, "False": explain.Failed}[c.Status]
		rows = append(rows, row(g.Group{mark(m), text(kind)}, text(c.Reason), text(c.Message)))
	}
	return section("conditions", "Kernel and conditions", table("Conditions", []string{"Condition", "Reason", "Message"}, rows))
}

// word is what the node says of others and of Services.
func word(s *cluster.State, st *snapshot.NodeState) g.Node {
	var rows []line
	for _, m := range st.Silent {
		rows = append(rows, row(g.Text("does not hear"), again(toNode(m.Node), m.Node), text(m.Verdict)))
	}
	for _, p := range st.Problems[:min(perPage, len(st.Problems))] {
		rows = append(rows, row(g.Text("could not serve"), again(toService(p.Service), p.Service.String()), text(string(p.Reason)+": "+p.Message)))
	}
	for _, f := range st.Findings[:min(perPage, len(st.Findings))] {
		rows = append(rows, row(g.Text("probed"), again(toAddress(f.Addr.String()), f.Addr.String()), text(probed(s, f))))
	}
	if len(rows) == 0 {
		return nil
	}
	return section("word", "What it found", table("What it found", []string{"What", "Of", "Detail"}, rows))
}

func probed(s *cluster.State, f snapshot.Finding) string {
	out := "nobody answered"
	if f.Conflict != "" {
		out = f.Conflict + " answered"
	}
	if f.Claimant != "" {
		out += ", " + f.Claimant + " claims it"
	}
	if f.ProbedAt.IsZero() {
		return out
	}
	return out + ", " + cluster.Ago(s.Now, f.ProbedAt) + " ago"
}
