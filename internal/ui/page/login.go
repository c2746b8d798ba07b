package page

import (
	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

// Login is the form for a token, as a document of its own: it has nothing of the cluster.
// why says what is missing, to is where the form leads.
func Login(why, to string) g.Node {
	return h.Doctype(h.HTML(h.Lang("en"),
		h.Head(
			h.Meta(h.Charset("utf-8")),
			h.Meta(h.Name("viewport"), h.Content("width=device-width, initial-scale=1")),
			h.Meta(h.Name("color-scheme"), h.Content("light dark")),
			h.TitleEl(g.Text("Log in · fairlead")),
			h.Link(h.Rel("icon"), h.Href("/static/icon.svg"), h.Type("image/svg+xml")),
			h.Link(h.Rel("stylesheet"), h.Href("/static/page.css")),
		),
		h.Body(
			h.Header(h.Span(h.Class("brand"), logo(), g.Text("fairlead"))),
			h.Main(h.ID("main"),
				h.H1(g.Text("Log in")),
				h.P(h.Role("alert"), text(why)),
				h.Form(h.Class("login"), h.Action("/login"), h.Method("post"),
					h.Label(h.For("token"), g.Text("Token")),
					h.Input(h.ID("token"), h.Name("token"), h.Type("password"), h.Required(), h.AutoFocus(), h.AutoComplete("off")),
					h.Input(h.Type("hidden"), h.Name("to"), h.Value(clean(to))),
					h.Button(h.Type("submit"), g.Text("Log in"))),
				h.P(h.Class("none"), g.Text("kubectl -n NAMESPACE create token SERVICEACCOUNT --audience=fairlead.io/page makes a token that is good for this page and for nothing else. You see what its owner may read.")),
			),
		),
	))
}
