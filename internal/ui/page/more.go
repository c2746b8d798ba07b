package page

import (
	"fmt"
	"slices"
	"strings"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/doctor"
	"github.com/fairlead/fairlead/internal/cli/explain"
	"github.com/fairlead/fairlead/internal/history"
)

// Timeline shows what happened, newest first.
func Timeline(s *cluster.State, query string, at int) Page {
	all := slices.DeleteFunc(slices.Clone(s.History), func(e history.Entry) bool {
		return !strings.Contains(e.String()+" "+e.Service, query)
	})
	slices.Reverse(all)
	from, to, links := paged(len(all), at, "/timeline", query)
	var rows []line
	for _, e := range all[from:to] {
		m := explain.OK
		if e.Kind.Fault() {
			m = explain.Failed
		}
		of := g.Node(nil)
		if e.Service != "" {
			of = serviceNamed(e.Service)
		}
		at := h.Time(h.DateTime(e.At.UTC().Format(time.RFC3339Nano)), g.Text(e.At.UTC().Format("2006-01-02 15:04:05.000")))
		rows = append(rows, row(g.Group{at, h.Div(h.Class("none"), g.Text(cluster.Ago(s.Now, e.At)+" ago"))}, g.Group{mark(m), text(e.String())}, text(e.Measured()), of))
	}
	note := "The controller records moves and faults while it leads. The times are UTC, by the clock of the node that announces, else by that of the controller."
	return Page{Title: "Timeline", Said: fmt.Sprintf("entries: %d", len(all)), Live: g.Group{
		h.H1(g.Text("Timeline")), gaps(s), h.P(h.Class("none"), g.Text(note)),
		section("list", "What happened", links, table("What happened, newest first", []string{"Time", "What", "Gap", "Service"}, rows)),
	}}
}

// Doctor lists all findings.
func Doctor(s *cluster.State, at int) Page {
	found := doctor.Cluster(s)
	summary := doctor.Summary(found)
	from, to, links := paged(len(found), at, "/doctor", "")
	var out, pods []g.Node
	for _, f := range found[from:to] {
		out = append(out, finding(f))
	}
	for _, line := range doctor.Found(doctor.LocalPods(s)) {
		pods = append(pods, h.Li(text(line)))
	}
	return Page{Title: "Doctor", Said: summary, Live: g.Group{
		h.H1(g.Text("Doctor")), h.P(h.Class("verdict"), good(!doctor.Bad(found)), text(summary)), links,
		g.If(len(out) > 0, h.Ul(append(out, h.Class("findings"))...)),
		g.If(len(pods) > 0, section("pods", "What nodes know their own pods by", h.Ul(pods...))),
		h.P(h.Class("none"), g.Text("Codes are explained in docs/troubleshooting.md. On a node, as root, fairlead doctor --node finds more.")),
	}}
}

// Preview is what pasted manifests would do.
type Preview struct {
	Manifests string
	Refused   []doctor.Rejected // by the API server
	Notes     []string
	Traces    []*explain.Trace // of the Services in the manifests
	Others    []string         // what changes for other Services
	Err       error
}

// WhatIf is the form for manifests, and what they would do.
func WhatIf(p Preview, asked bool) Page {
	form := h.Form(h.Class("paste"), h.Action("/whatif"), h.Method("post"),
		h.Label(h.For("manifests"), g.Text("Manifests of Services, AddressPools and others, in YAML or JSON")),
		h.Textarea(h.ID("manifests"), h.Name("manifests"), h.Rows("14"), g.Attr("spellcheck", "false"), h.Required(), g.Text(p.Manifests)),
		h.P(h.Button(h.Type("submit"), g.Text("Show what they would do")), g.Text(" Nothing is applied.")))
	page := Page{Title: "What if", Said: "", Live: h.H1(g.Text("What if")), Still: form}
	if asked {
		page.Still = g.Group{h.Div(h.ID("answer"), p.answer()), form}
	}
	return page
}

func (p Preview) answer() g.Node {
	var out g.Group
	if p.Err != nil {
		return h.P(h.Role("alert"), good(false), text(p.Err.Error()))
	}
	for _, r := range p.Refused {
		out = append(out, h.P(good(false), text("the API server refuses "+r.Kind+" "+strings.TrimPrefix(r.Namespace+"/"+r.Name, "/")+": "+r.Message)))
	}
	for _, n := range p.Notes {
		out = append(out, h.P(mark(explain.Note), text(n)))
	}
	for _, t := range p.Traces {
		out = append(out, h.Section(h.H2(name(t.Title)), verdict(t), steps(t.Steps, false)))
	}
	if len(p.Others) > 0 {
		var lines []g.Node
		for _, o := range p.Others {
			lines = append(lines, h.Li(text(o)))
		}
		out = append(out, section("others", "What changes for other Services", h.Ul(lines...)))
	} else {
		out = append(out, h.P(h.Class("none"), g.Text("Nothing changes for other Services.")))
	}
	return out
}
