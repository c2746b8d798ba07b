// Package page draws a cluster as pages of HTML. It decides nothing and says nothing of
// its own about the cluster: the sentences are those of explain, status and doctor.
package page

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/doctor"
	"github.com/fairlead/fairlead/internal/cli/explain"
	"github.com/fairlead/fairlead/internal/plain"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Page is one page.
type Page struct {
	Title string
	// Live is drawn again when the cluster changes.
	Live g.Node
	// Still are forms and their answers: a redraw would take away what is typed.
	Still g.Node
	// Said is what a screen reader is told when it changes.
	Said string
	// Missing says that there is no such object.
	Missing bool
}

// Frame is what all pages have around them.
type Frame struct {
	At      string // path and query of the page, for its live part
	Version string
	Query   string
	Demo    []string // names of the demo's clusters; none: a real one
	Story   string   // the demo's cluster that is shown
	User    string   // who looks; "": that is not known
	Out     bool     // they can log out
}

// pages are those of the navigation.
var pages = []struct{ path, name string }{
	{"/", "Overview"}, {"/addresses", "Addresses"}, {"/services", "Services"}, {"/nodes", "Nodes"}, {"/pools", "Pools"},
	{"/timeline", "Timeline"}, {"/doctor", "Doctor"}, {"/whatif", "What if"},
}

// HTML is the whole document.
func (f Frame) HTML(p Page) g.Node {
	return h.Doctype(h.HTML(h.Lang("en"),
		h.Head(
			h.Meta(h.Charset("utf-8")),
			h.Meta(h.Name("viewport"), h.Content("width=device-width, initial-scale=1")),
			h.Meta(h.Name("color-scheme"), h.Content("light dark")),
			// The page's policy allows no style and no script but its own files.
			h.Meta(h.Name("htmx-config"), h.Content(`{"includeIndicatorStyles":false,"allowEval":false,"selfRequestsOnly":true,"historyEnabled":false}`)),
			h.TitleEl(text(p.Title+" · fairlead")),
			h.Link(h.Rel("icon"), h.Href("/static/icon.svg"), h.Type("image/svg+xml")),
			h.Link(h.Rel("stylesheet"), h.Href("/static/page.css")),
			h.Script(h.Src("/static/htmx.min.js"), h.Defer()),
			h.Script(h.Src("/static/sse.min.js"), h.Defer()),
		),
		h.Body(
			h.A(h.Class("skip"), h.Href("#main"), g.Text("Skip to the content")),
			f.header(),
			h.Main(h.ID("main"), h.TabIndex("-1"),
				h.Div(g.Attr("hx-ext", "sse"), g.Attr("sse-connect", "/live?at="+url.QueryEscape(f.At)),
					h.Div(h.ID("live"), g.Attr("sse-swap", "page"), p.Live),
					h.P(h.Class("unseen"), h.Role("status"), h.Aria("live", "polite"), g.Attr("sse-swap", "said"), text(p.Said)),
				),
				p.Still,
			),
			h.Footer(h.P(g.Text("fairlead "), text(f.Version), g.Text(". This page changes nothing in the cluster."))),
		),
	))
}

func (f Frame) header() g.Node {
	at, _, _ := strings.Cut(f.At, "?")
	var links []g.Node
	for _, p := range pages {
		current := at == p.path || p.path != "/" && strings.HasPrefix(at, p.path+"/")
		links = append(links, h.Li(h.A(h.Href(p.path), g.If(current, h.Aria("current", "page")), g.Text(p.name))))
	}
	return h.Header(
		h.A(h.Class("brand"), h.Href("/"), logo(), g.Text("fairlead")),
		h.Nav(h.Aria("label", "Pages"), h.Ul(links...)),
		h.Form(h.Role("search"), h.Action("/services"), h.Method("get"),
			h.Label(h.For("q"), h.Class("unseen"), g.Text("Service, namespace or address")),
			h.Input(h.ID("q"), h.Name("q"), h.Type("search"), h.Placeholder("Service or address"), h.Value(plain.Text(f.Query)), h.AutoComplete("off"))),
		g.If(len(f.Demo) > 0, f.stories()),
		g.If(f.User != "", h.Form(h.Class("user"), h.Action("/logout"), h.Method("post"), h.Span(text(f.User)), g.If(f.Out, h.Button(h.Type("submit"), g.Text("Log out"))))),
	)
}

// stories chooses a cluster of the demo.
func (f Frame) stories() g.Node {
	var options []g.Node
	for _, name := range f.Demo {
		options = append(options, h.Option(h.Value(name), g.If(name == f.Story, h.Selected()), text(name)))
	}
	return h.Form(h.Class("stories"), h.Action("/story"), h.Method("get"),
		h.Label(h.For("story"), g.Text("Demo")), h.Select(append(options, h.ID("story"), h.Name("name"))...), h.Button(g.Text("Show")))
}

// text is text of others: nothing in it is markup, and no character of it turns the
// text around or is invisible.
func text(s string) g.Node { return g.Text(plain.Text(s)) }

// name is text that may be long and of any script: it is kept apart from what is beside it.
func name(s string) g.Node { return g.El("bdi", text(s)) }

// mark is a verdict as a sign, with a word for those who do not see it.
func mark(m explain.Mark) g.Node {
	sign := map[explain.Mark]string{explain.OK: "✔", explain.Failed: "✖"}[m]
	if sign == "" {
		sign = "·"
	}
	return h.Span(h.Class("mark "+string(m)), h.Span(h.Aria("hidden", "true"), g.Text(sign)), h.Span(h.Class("unseen"), g.Text(string(m)+": ")))
}

func good(ok bool) g.Node {
	if ok {
		return mark(explain.OK)
	}
	return mark(explain.Failed)
}

// section begins a section of a page, which it names.
func section(id, title string, inside ...g.Node) g.Node {
	return h.Section(h.Aria("labelledby", id), h.H2(h.ID(id), g.Text(title)), g.Group(inside))
}

// table is a table, and a list of rows one below the other where the screen is narrow: each
// cell then says which column it is of. Its caption is for those who do not see the heading.
func table(caption string, head []string, rows []line) g.Node {
	if len(rows) == 0 {
		return h.P(h.Class("none"), g.Text("None."))
	}
	var cells []g.Node
	for _, c := range head {
		cells = append(cells, h.Th(h.Scope("col"), g.Text(c)))
	}
	var body []g.Node
	for _, r := range rows {
		var of []g.Node
		for i, c := range r {
			of = append(of, h.Td(h.Data("of", head[i]), c))
		}
		body = append(body, h.Tr(of...))
	}
	return h.Div(h.Class("wide"), h.TabIndex("0"), h.Role("region"), h.Aria("label", caption),
		h.Table(h.Caption(h.Class("unseen"), g.Text(caption)), h.THead(h.Tr(cells...)), h.TBody(body...)))
}

// line is the cells of a row.
type line []g.Node

func row(cells ...g.Node) line { return cells }

// facts is a list of names and values.
func facts(pairs ...g.Node) g.Node { return h.Dl(pairs...) }

func fact(what string, value g.Node) g.Node {
	return h.Div(h.Dt(g.Text(what)), h.Dd(value))
}

func link(to, what string) g.Node { return h.A(h.Href(to), h.ID("to"+to), name(what)) }

// again is link where the page has one to the same place already.
func again(to, what string) g.Node { return h.A(h.Href(to), name(what)) }

func toService(ref snapshot.Ref) string {
	return "/services/" + url.PathEscape(ref.Namespace) + "/" + url.PathEscape(ref.Name)
}

func toNode(node string) string { return "/nodes/" + url.PathEscape(node) }

func toAddress(addr string) string { return "/addresses/" + url.PathEscape(addr) }

// serviceNamed links to a Service that is named NAMESPACE/NAME.
func serviceNamed(full string) g.Node {
	ns, svc, ok := strings.Cut(full, "/")
	if !ok {
		return name(full)
	}
	return again(toService(snapshot.Ref{Namespace: ns, Name: svc}), full)
}

// each puts a comma between nodes.
func each(nodes []g.Node) g.Node {
	var out g.Group
	for i, n := range nodes {
		if i > 0 {
			out = append(out, g.Text(", "))
		}
		out = append(out, n)
	}
	return out
}

// perPage is how many lines a list has: a page stays small however large the cluster is.
const perPage = 100

// paged returns the part of n things that page number at shows, and links to the others.
func paged(n, at int, path, query string) (from, to int, links g.Node) {
	last := max(0, (n-1)/perPage)
	at = min(max(at, 0), last)
	from, to = at*perPage, min(n, (at+1)*perPage)
	if n <= perPage {
		return from, to, nil
	}
	href := func(p int) string {
		v := url.Values{"page": {strconv.Itoa(p + 1)}}
		if query != "" {
			v.Set("q", query)
		}
		return path + "?" + v.Encode()
	}
	return from, to, h.Nav(h.Class("paged"), h.Aria("label", "Parts of the list"),
		h.Span(g.Text(fmt.Sprintf("%d to %d of %d", from+1, to, n))),
		g.If(at > 0, h.A(h.Href(href(at-1)), h.Rel("prev"), g.Text("Earlier"))),
		g.If(at < last, h.A(h.Href(href(at+1)), h.Rel("next"), g.Text("Later"))))
}

// gaps says what the user may not see.
func gaps(s *cluster.State) g.Node {
	if len(s.Gaps) == 0 {
		return nil
	}
	var out []g.Node
	for _, gap := range s.Gaps {
		out = append(out, h.Li(mark(explain.Note), h.Strong(text(gap.What)), g.Text(" could not be read: "), text(gap.Why)))
	}
	return h.Aside(h.Class("gaps"), h.Aria("label", "What could not be read"), h.Ul(out...))
}

// finding is one of doctor's, as it prints it.
func finding(f doctor.Finding) g.Node {
	m := mark(explain.Failed)
	if f.Severity == doctor.Warning {
		m = h.Span(h.Class("mark warning"), h.Span(h.Aria("hidden", "true"), g.Text("!")), h.Span(h.Class("unseen"), g.Text("warning: ")))
	}
	message := h.Span(h.Class("message"), text(f.Message))
	if to := about(f); to != "" {
		message = h.A(h.Class("message"), h.Href(to), text(f.Message))
	}
	return h.Li(h.Class("finding"), m, h.Code(g.Text(string(f.Code))), g.Text(" "), message,
		g.If(f.Next != "", h.P(h.Class("next"), g.Text("Next: "), text(f.Next))))
}

// about is the page of what a finding is about; "" if there is none.
func about(f doctor.Finding) string {
	switch f.Object.Resource {
	case "service":
		return toService(snapshot.Ref{Namespace: f.Object.Namespace, Name: f.Object.Name})
	case "node":
		return toNode(f.Object.Name)
	case "addresspool.fairlead.io":
		return "/pools"
	case "address.fairlead.io":
		return toAddress(f.Object.Name)
	}
	return ""
}

// NotFound is the page of what is not there.
func NotFound(what string) Page {
	return Page{Title: "Not found", Missing: true, Said: what, Live: g.Group{h.H1(g.Text("Not found")), h.P(text(what))}}
}

// Ended is shown in place of a page that its viewer may not see any longer.
func Ended(why string) Page {
	return Page{Title: "Log in again", Said: why, Live: g.Group{h.H1(g.Text("Log in again")), h.P(h.Role("alert"), text(why)), h.P(h.A(h.Href("/"), g.Text("Log in")))}}
}

// Said is what a screen reader is told of p, as HTML.
func Said(p Page) string {
	var b strings.Builder
	_ = text(p.Said).Render(&b) // a Builder takes everything
	return b.String()
}
