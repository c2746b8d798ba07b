package page

import (
	"fmt"
	"slices"
	"strings"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/doctor"
	"github.com/fairlead/fairlead/internal/cli/status"
)

// first is how many findings the overview has: all of them are doctor's.
const first = 8

// Overview shows who answers for what, and what is wrong.
func Overview(s *cluster.State) Page {
	r := status.Of(s)
	summary := doctor.Summary(r.Findings)
	control, m := r.Controls()
	var wrong []g.Node
	for _, f := range r.Findings[:min(first, len(r.Findings))] {
		wrong = append(wrong, finding(f))
	}
	more := len(r.Findings) - len(wrong)
	return Page{Title: "Overview", Said: summary, Live: g.Group{
		h.H1(g.Text("Overview")),
		h.P(h.Class("verdict"), good(!doctor.Bad(r.Findings)), text(summary)),
		gaps(s),
		h.Div(h.Class("halves"),
			section("wrong", "What is wrong",
				g.If(len(wrong) == 0, h.P(h.Class("none"), text(summary))),
				g.If(len(wrong) > 0, h.Ul(append(wrong, h.Class("findings"))...)),
				g.If(more > 0, h.P(h.A(h.Href("/doctor"), g.Text(fmt.Sprintf("and %d more", more)))))),
			section("who", "Who answers for what", picture(r)),
		),
		h.Div(h.Class("halves"),
			section("controller", "Controller", h.P(mark(m), text(control))),
			section("pools", "Pools", poolBars(r)),
		),
		section("agents", "Nodes at a glance", squares(r)),
	}}
}

func poolBars(r status.Report) g.Node {
	var out []g.Node
	for _, p := range r.Pools {
		for _, u := range p.Use {
			out = append(out, h.Li(good(p.Good), again("/pools", p.Name), g.Text(" "+u.Family+" "), h.Progress(h.Max(fmt.Sprint(max(1, u.Total))), h.Value(fmt.Sprint(u.Assigned)), h.Aria("label", "assigned in "+p.Name)), g.Text(" "), text(u.String())))
		}
		if len(p.Use) == 0 {
			out = append(out, h.Li(good(p.Good), again("/pools", p.Name), g.Text(" no address")))
		}
	}
	if len(out) == 0 {
		return h.P(h.Class("none"), g.Text("None."))
	}
	return h.Ul(append(out, h.Class("bars"))...)
}

// named is how many nodes are shown with their names.
const named = 30

// squares shows each node as a square, and its name while they are few.
func squares(r status.Report) g.Node {
	var out []g.Node
	for _, a := range r.Agents {
		class := "square ok"
		if !a.Good() {
			class = "square failed"
		} else if a.Draining {
			class = "square note"
		}
		says := a.Node + ": " + a.State()
		label := h.Span(h.Class("unseen"), text(says))
		if len(r.Agents) <= named {
			label = h.Span(text(says))
		}
		out = append(out, h.Li(h.A(h.Href(toNode(a.Node)), h.Title(clean(says)), h.Span(h.Class(class)), label)))
	}
	if len(out) == 0 {
		return h.P(h.Class("none"), g.Text("No node has an agent."))
	}
	return h.Ul(append(out, h.Class("squares"))...)
}

// The picture's measures, in its own units.
const (
	lineHigh  = 34
	boxWide   = 165
	between   = 70
	mostBoxes = 12
)

// picture draws addresses on the left, those that nobody announces first, nodes on the
// right, and a line from each address to who answers for it.
func picture(r status.Report) g.Node {
	vips := r.VIPs[:min(mostBoxes, len(r.VIPs))]
	nodes := pictured(r, vips)
	if len(vips)+len(nodes) == 0 {
		return h.P(h.Class("none"), g.Text("No Service holds an address."))
	}
	at := map[string]int{}
	var boxes, lines []g.Node
	for i, n := range nodes {
		at[n.Node] = i
		boxes = append(boxes, box(boxWide+between, i, toNode(n.Node), n.Node, n.State(), n.Good()))
	}
	for i, v := range vips {
		boxes = append(boxes, box(0, i, toAddress(v.Address), v.Address, status.Some(v.Services, false), len(v.Announcers) > 0 && !accused(r, v)))
		for _, by := range v.Announcers {
			node, _, _ := strings.Cut(by, " ")
			if j, ok := at[node]; ok {
				lines = append(lines, arrow(i, j))
			}
		}
	}
	high := max(len(vips), len(nodes))*lineHigh + 4
	wide := 2*boxWide + between + 4
	left := len(r.VIPs) - len(vips)
	return g.Group{
		h.Div(h.Role("group"), h.Aria("label", "Addresses and the nodes that announce them"),
			g.El("svg", g.Attr("class", "picture"), g.Attr("viewBox", fmt.Sprintf("-2 -2 %d %d", wide, high)),
				g.Group(lines), g.Group(boxes))),
		g.If(left > 0, h.P(h.A(h.Href("/addresses"), g.Text(fmt.Sprintf("and %d more", left))))),
	}
}

// accused reports whether a Service that holds the address has a problem.
func accused(r status.Report, v status.VIP) bool {
	return slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool {
		return f.Severity == doctor.Problem && f.Object.Resource == "service" && slices.Contains(v.Services, f.Object.Namespace+"/"+f.Object.Name)
	})
}

// pictured are the nodes to draw: who announces one of vips, then those that are not in
// order, then the others.
func pictured(r status.Report, vips []status.VIP) []status.Agent {
	announces := func(a status.Agent) bool {
		return slices.ContainsFunc(vips, func(v status.VIP) bool {
			return slices.ContainsFunc(v.Announcers, func(by string) bool { return strings.HasPrefix(by, a.Node+" ") })
		})
	}
	rank := func(a status.Agent) int {
		switch {
		case announces(a):
			return 0
		case !a.Good():
			return 1
		}
		return 2
	}
	nodes := slices.Clone(r.Agents)
	slices.SortStableFunc(nodes, func(a, b status.Agent) int { return rank(a) - rank(b) })
	return nodes[:min(mostBoxes, len(nodes))]
}

func box(x, i int, to, what, detail string, ok bool) g.Node {
	class := "box ok"
	if !ok {
		class = "box failed"
	}
	num := func(n int) string { return fmt.Sprint(n) }
	sign := "✔ "
	if !ok {
		sign = "✖ "
	}
	return g.El("a", g.Attr("href", to), g.Attr("class", class),
		g.El("title", text(what+": "+detail)),
		g.El("rect", g.Attr("x", num(x)), g.Attr("y", num(i*lineHigh)), g.Attr("width", num(boxWide)), g.Attr("height", num(lineHigh-6)), g.Attr("rx", "4")),
		g.El("text", g.Attr("x", num(x+8)), g.Attr("y", num(i*lineHigh+12)), text(sign+short(what, 20))),
		g.El("text", g.Attr("class", "detail"), g.Attr("x", num(x+8)), g.Attr("y", num(i*lineHigh+24)), text(short(detail, 28))))
}

func arrow(i, j int) g.Node {
	y1, y2 := i*lineHigh+(lineHigh-6)/2, j*lineHigh+(lineHigh-6)/2
	return g.El("path", g.Attr("class", "line"), g.Attr("d", fmt.Sprintf("M%d %d C%d %d %d %d %d %d", boxWide, y1, boxWide+between/2, y1, boxWide+between/2, y2, boxWide+between, y2)))
}

// short cuts a text that a drawing has no room for. The whole is in its title.
func short(s string, most int) string {
	s = clean(s)
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

func logo() g.Node {
	return g.El("svg", g.Attr("viewBox", "0 0 16 16"), g.Attr("width", "20"), g.Attr("height", "20"), h.Aria("hidden", "true"),
		g.El("path", g.Attr("d", "M2 8h5m0 0 5-5m-5 5 5 5m-5-5h7"), g.Attr("fill", "none"), g.Attr("stroke", "currentColor"), g.Attr("stroke-width", "1.8")))
}
