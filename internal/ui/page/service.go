package page

import (
	"fmt"
	"slices"
	"strings"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/explain"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Asked is the form of a trace.
type Asked struct {
	From, To, Node string
	Answer         *explain.Trace
	Err            error
}

// Service shows the way of a packet to a Service, and what explain says of it.
func Service(s *cluster.State, ref snapshot.Ref, a Asked) Page {
	t, ok := explain.Explain(s, ref)
	if !ok {
		return NotFound(fmt.Sprintf("there is no Service %s: kubectl get services -A", ref))
	}
	if a.To == "" && s.Service(ref) != nil {
		a.To = target(s, ref)
	}
	return Page{Title: ref.String(), Said: t.Verdict, Still: traceForm(s, ref, a), Live: g.Group{
		h.H1(name(t.Title)), gaps(s), verdict(t),
		section("path", "The way of a packet", path(t)),
		section("steps", "Every step", steps(t.Steps, false)),
	}}
}

// target is the first address and port of the Service, for the form.
func target(s *cluster.State, ref snapshot.Ref) string {
	svc := s.Service(ref)
	for _, in := range svc.Ingress {
		if in.IP.IsValid() && len(svc.Ports) > 0 {
			p := svc.Ports[0]
			host := in.IP.String()
			if in.IP.Is6() {
				host = "[" + host + "]"
			}
			proto := ""
			if p.Protocol != snapshot.TCP {
				proto = "/" + p.Protocol.String()
			}
			return fmt.Sprintf("%s:%d%s", host, p.Port, proto)
		}
	}
	return ""
}

// verdict is what explain ends with, and the step that failed.
func verdict(t *explain.Trace) g.Node {
	failed := t.Failed()
	class := "verdict ok"
	if failed != nil {
		class = "verdict failed"
	}
	return h.Div(h.Class(class),
		h.P(good(failed == nil), h.Strong(text(t.Verdict))),
		g.Iff(failed != nil, func() g.Node {
			return h.P(h.Class("broken"), h.Strong(text(failed.Name)), g.Text(" "), text(failed.Text))
		}),
		h.P(h.Class("next"), g.Text("Next: "), text(t.Next)))
}

// stages are the parts of the way, each with the steps that are about it. A step that no
// stage names belongs to the address.
var stages = []struct {
	name  string
	steps []string
}{
	{"Client", []string{"sources", "policy", "node ports"}},
	{"Address", nil},
	{"Owner", []string{"nodes", "announcer"}},
	{"Node", []string{"engine"}},
	{"Pods", []string{"endpoints"}},
}

// stage returns which of stages a step is about.
func stage(step string) int {
	for i, st := range stages {
		for _, n := range st.steps {
			if step == n || strings.HasPrefix(step, n+" ") {
				return i
			}
		}
	}
	return 1
}

// path draws the stages one after the other, each with the step that says most: the one
// that failed, or the last.
func path(t *explain.Trace) g.Node {
	var out []g.Node
	for i, st := range stages {
		var mine []explain.Step
		for _, s := range t.Steps {
			if stage(s.Name) == i {
				mine = append(mine, s)
			}
		}
		var says *explain.Step
		if j := slices.IndexFunc(mine, func(s explain.Step) bool { return s.Mark == explain.Failed }); j >= 0 {
			says = &mine[j]
		} else if len(mine) > 0 {
			says = &mine[len(mine)-1]
		}
		class := "unknown"
		if says != nil {
			class = string(says.Mark)
		}
		out = append(out, h.Li(h.Class(class), sign(i), h.H3(g.Text(st.name)),
			g.Iff(says != nil, func() g.Node { return h.P(mark(says.Mark), text(says.Text)) }),
			g.If(says == nil, h.P(h.Class("none"), g.Text("not come to")))))
	}
	return h.Ol(append(out, h.Class("path"))...)
}

// signs are what the stages are drawn as, 24 units wide and high.
var signs = []string{
	"M3 5h18v11H3zM8 20h8M12 16v4", // a screen
	"M12 2a7 7 0 0 0-7 7c0 5 7 13 7 13s7-8 7-13a7 7 0 0 0-7-7zM12 6.5a2.5 2.5 0 1 1 0 5 2.5 2.5 0 0 1 0-5z", // a place
	"M4 10v4M8 7v10M12 4v16M16 7v10M20 10v4",                // a voice
	"M3 4h18v6H3zM3 14h18v6H3zM7 7h.1M7 17h.1",              // a machine
	"M12 2l9 5v10l-9 5-9-5V7zM12 12l9-5M12 12v10M12 12L3 7", // a box
}

func sign(i int) g.Node {
	return g.El("svg", g.Attr("class", "sign"), g.Attr("viewBox", "0 0 24 24"), g.Attr("width", "28"), g.Attr("height", "28"), h.Aria("hidden", "true"), g.El("path", g.Attr("d", signs[i])))
}

// few is how many details of a step are shown at once.
const few = 12

// steps lists steps as explain prints them. With all, the details are open.
func steps(list []explain.Step, all bool) g.Node {
	var out []g.Node
	for _, s := range list {
		out = append(out, h.Li(h.Class("step"), mark(s.Mark), h.Strong(h.Class("name"), text(s.Name)), g.Text(" "), h.Div(h.Span(h.Class("text"), text(s.Text)), details(s.Details, all))))
	}
	return h.Ul(append(out, h.Class("steps"))...)
}

func details(list []explain.Step, all bool) g.Node {
	if len(list) == 0 {
		return nil
	}
	var out []g.Node
	for _, d := range list {
		out = append(out, h.Li(h.Class("detail"), mark(d.Mark), h.Span(h.Class("name"), name(d.Name)), g.Text(" "), h.Span(h.Class("text"), text(d.Text))))
	}
	if all || len(list) <= few {
		return h.Ul(out...)
	}
	return h.Details(h.Summary(g.Text(fmt.Sprintf("all %d", len(list)))), h.Ul(out...))
}

func traceForm(s *cluster.State, ref snapshot.Ref, a Asked) g.Node {
	nodes := []g.Node{h.Option(h.Value(""), g.Text("where it would arrive"))}
	for _, n := range s.Nodes {
		nodes = append(nodes, h.Option(h.Value(clean(n.Name)), g.If(n.Name == a.Node, h.Selected()), text(n.Name)))
	}
	return section("trace", "Trace a packet",
		h.Form(h.Class("ask"), h.Action(toService(ref)+"#trace"), h.Method("get"),
			h.Label(h.For("from"), g.Text("Client's address")), h.Input(h.ID("from"), h.Name("from"), h.Required(), h.Value(clean(a.From)), h.Placeholder("198.51.100.7"), h.AutoComplete("off")),
			h.Label(h.For("to"), g.Text("Address and port")), h.Input(h.ID("to"), h.Name("to"), h.Required(), h.Value(clean(a.To)), h.Placeholder("192.0.2.10:80"), h.AutoComplete("off")),
			h.Label(h.For("node"), g.Text("Node")), h.Select(append(nodes, h.ID("node"), h.Name("node"))...),
			h.Button(h.Type("submit"), g.Text("Trace"))),
		g.Iff(a.Err != nil, func() g.Node { return h.P(h.Role("alert"), good(false), text(a.Err.Error())) }),
		g.Iff(a.Answer != nil, func() g.Node { return h.Div(h.ID("answer"), verdict(a.Answer), steps(a.Answer.Steps, true)) }))
}
