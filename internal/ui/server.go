package ui

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/explain"
	"github.com/fairlead/fairlead/internal/server"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/ui/page"
)

// Options are what a Server is made of.
type Options struct {
	Version string
	Source  Source
	// Stories are the demo's clusters by name, in the order of Names. Source is then the
	// first of them.
	Stories map[string]Source
	Names   []string
	// Question reads the form of a trace.
	Question func(from, to, node string) (explain.Question, error)
	// Namespace is that of manifests that name none.
	Namespace string
}

// Server serves the pages.
type Server struct {
	opt     Options
	guard   *guard
	host    string
	admit   func(http.Handler) http.Handler    // lets in who may look
	look    func(*http.Request) (visit, error) // what who is let in sees now
	recheck time.Duration                      // how often look is asked for an open page; 0: once
	views   map[string]*view                   // by story; "" if there are none
	lives   *places
}

// mostLive is how many pages are kept current at a time.
const mostLive = 64

// New returns a Server for requests that name host, which is an address and a port.
func New(opt Options, host string) *Server {
	_, port, _ := net.SplitHostPort(host)
	hosts := []string{host}
	if a, err := netip.ParseAddrPort(host); err == nil && a.Addr().IsLoopback() {
		hosts = append(hosts, "localhost:"+port)
	}
	s := &Server{opt: opt, host: host, guard: newGuard(hosts, "fairlead-ui-"+port), views: map[string]*view{}, lives: newPlaces(mostLive, mostLive)}
	s.admit = s.guard.linked
	s.look = func(r *http.Request) (visit, error) { return visit{view: s.views[s.story(r)]}, nil }
	for name, src := range opt.Stories {
		s.views[name] = &view{source: src}
	}
	if len(opt.Stories) == 0 {
		s.views[""] = &view{source: opt.Source}
	}
	return s
}

// Link is the address to open. It is good once.
func (s *Server) Link() string {
	return "http://" + s.host + "/?token=" + s.guard.token
}

// Serve answers on l until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := server.HTTP(s.Handler())
	srv.BaseContext = func(net.Listener) context.Context { return ctx }
	go s.warm(ctx)
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the page: %w", err)
	}
	return nil
}

// warm elects while the browser starts: in a large cluster that is most of the first page.
func (s *Server) warm(ctx context.Context) {
	if v := s.views[""]; v != nil {
		state, _ := v.now(ctx)
		state.Owners()
	}
}

// Handler answers requests of those who may look.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /static/", serveStatic())
	mux.HandleFunc("GET /live", s.live)
	mux.HandleFunc("GET /story", s.choose)
	mux.HandleFunc("POST /whatif", s.preview)
	mux.HandleFunc("GET /", s.page)
	return s.guard.protect(s.admit(mux))
}

// story is the demo's cluster that the browser chose.
func (s *Server) story(r *http.Request) string {
	if len(s.opt.Names) == 0 {
		return ""
	}
	if c, err := r.Cookie(s.guard.cookie + "-story"); err == nil && s.views[c.Value] != nil {
		return c.Value
	}
	return s.opt.Names[0]
}

// choose notes the demo's cluster in the browser.
func (s *Server) choose(w http.ResponseWriter, r *http.Request) {
	if name := r.URL.Query().Get("name"); s.views[name] != nil {
		http.SetCookie(w, &http.Cookie{Name: s.guard.cookie + "-story", Value: name, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	v, err := s.look(r)
	if err != nil {
		turnAway(w, r, err, r.URL.RequestURI())
		return
	}
	state, _ := v.now(r.Context())
	s.write(w, r, v, s.draw(state, r.URL))
}

// write sends the whole page.
func (s *Server) write(w http.ResponseWriter, r *http.Request, v visit, p page.Page) {
	var b bytes.Buffer
	_, without := r.Cookie(s.guard.cookie)
	f := page.Frame{At: r.URL.RequestURI(), Version: s.opt.Version, Query: r.URL.Query().Get("q"), Demo: s.opt.Names, Story: s.story(r), User: v.user, Out: without == nil}
	if err := f.HTML(p).Render(&b); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if p.Missing {
		w.WriteHeader(http.StatusNotFound)
	}
	_, _ = w.Write(b.Bytes())
}

// draw makes the page at u.
func (s *Server) draw(state *cluster.State, u *url.URL) page.Page {
	q := u.Query()
	number, _ := strconv.Atoi(q.Get("page"))
	at := number - 1
	what, rest, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	switch {
	case u.Path == "/":
		return page.Overview(state)
	case what == "addresses" && rest != "":
		if a, err := netip.ParseAddr(rest); err == nil {
			return page.Address(state, a)
		}
	case what == "services" && rest != "":
		if ns, name, ok := strings.Cut(rest, "/"); ok {
			return page.Service(state, snapshot.Ref{Namespace: ns, Name: name}, s.asked(state, q))
		}
	case what == "nodes" && rest != "":
		return page.Node(state, rest)
	case rest != "":
	case what == "addresses":
		return page.Addresses(state, q.Get("q"), at)
	case what == "services":
		return page.Services(state, q.Get("q"), at)
	case what == "nodes":
		return page.Nodes(state, at)
	case what == "pools":
		return page.Pools(state)
	case what == "timeline":
		return page.Timeline(state, q.Get("q"), at)
	case what == "doctor":
		return page.Doctor(state, at)
	case what == "whatif":
		return page.WhatIf(page.Preview{}, false)
	}
	return page.NotFound("There is no page " + u.Path + ".")
}

// asked answers the form of a trace, if it was sent.
func (s *Server) asked(state *cluster.State, q url.Values) page.Asked {
	a := page.Asked{From: q.Get("from"), To: q.Get("to"), Node: q.Get("node")}
	if a.From == "" && a.To == "" {
		return a
	}
	question, err := s.opt.Question(a.From, a.To, a.Node)
	if err == nil {
		a.Answer, err = explain.Packet(state, question)
	}
	a.Err = err
	return a
}

// live sends the live part of a page whenever it differs from what was sent last.
func (s *Server) live(w http.ResponseWriter, r *http.Request) {
	at, err := url.ParseRequestURI(cmp.Or(r.URL.Query().Get("at"), "/"))
	v, no := s.look(r)
	if err = cmp.Or(err, no); err != nil {
		turnAway(w, r, err, "/")
		return
	}
	leave, ok := s.lives.take(v.user)
	defer leave()
	if !ok {
		http.Error(w, "too many pages are open", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	to := &stream{to: w, out: http.NewResponseController(w), sent: map[string]string{}}
	for {
		state, changed := v.now(r.Context())
		if to.page(s.draw(state, at)) != nil {
			return
		}
		select { // a bound on the work for a cluster that changes all the time
		case <-r.Context().Done():
			return
		case <-time.After(rest):
		}
		if !s.next(r, v, changed) {
			return
		}
		if v, err = s.look(r); err != nil { // what they may not see any longer goes from the screen
			_, why := refusal(err)
			_ = to.page(page.Ended(why))
			return
		}
	}
}

// stream is what one open page is sent.
type stream struct {
	to   io.Writer
	out  *http.ResponseController
	sent map[string]string
}

// deaf is how long a browser may take nothing.
const deaf = 30 * time.Second

// page sends the live part of p.
func (st *stream) page(p page.Page) error {
	var b bytes.Buffer
	if err := p.Live.Render(&b); err != nil {
		return fmt.Errorf("page: %w", err)
	}
	if err := st.send("page", b.String()); err != nil {
		return err
	}
	if err := st.send("said", page.Said(p)); err != nil {
		return err
	}
	return st.flush()
}

// send sends an event, unless the page has the same already.
func (st *stream) send(event, data string) error {
	if last, ok := st.sent[event]; ok && last == data {
		return nil
	}
	st.sent[event] = data
	if err := st.out.SetWriteDeadline(time.Now().Add(deaf)); err != nil {
		return fmt.Errorf("page: %w", err)
	}
	_, err := fmt.Fprintf(st.to, "event: %s\ndata: %s\n\n", event, strings.ReplaceAll(data, "\n", "\ndata: "))
	return err
}

// flush sends a comment too: a browser that went away is noticed by it.
func (st *stream) flush() error {
	if err := st.out.SetWriteDeadline(time.Now().Add(deaf)); err != nil {
		return fmt.Errorf("page: %w", err)
	}
	if _, err := fmt.Fprint(st.to, ": here\n\n"); err != nil {
		return err
	}
	return st.out.Flush()
}
