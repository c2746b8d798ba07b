package ui

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/cli/survey"
	"github.com/fairlead/fairlead/internal/server"
	"github.com/fairlead/fairlead/internal/ui/door"
	"github.com/fairlead/fairlead/internal/ui/page"
)

// Shared is the page for everybody who has a token of the cluster, as the controller
// serves it. Each sees what RBAC lets them see.
type Shared struct {
	server *Server
	door   *door.Door
	cert   *door.Certificate
	live   Watcher
	asked  []survey.Access
	log    *slog.Logger

	wanted func()        // somebody may look
	opened chan struct{} // closed by wanted

	mu    sync.Mutex
	views map[string]*view // by what their viewers may read
}

// Watcher is a Source that reads a cluster while it runs: survey.Live.
type Watcher interface {
	Source
	// Run reads until ctx ends.
	Run(ctx context.Context)
	// Started waits until everything was read once, or could not be.
	Started(ctx context.Context) error
}

// sharedCookie has the token of somebody who logged in. The prefix has the browser keep it
// from other hosts and from unencrypted connections.
const sharedCookie = "__Host-fairlead"

// mostViews is how many different sets of rights have a value of the cluster of their own.
const mostViews = 8

// NewShared returns a Shared that reads nothing before somebody may look.
func NewShared(opt Options, d *door.Door, cert *door.Certificate, live Watcher, asked []survey.Access, log *slog.Logger) *Shared {
	s := &Shared{door: d, cert: cert, live: live, asked: asked, log: log, opened: make(chan struct{}), views: map[string]*view{}}
	s.wanted = sync.OnceFunc(func() { close(s.opened) })
	s.server = &Server{opt: opt, look: s.look, recheck: door.Lasts, lives: newPlaces(mostLive, mostLive/4), views: map[string]*view{},
		guard: &guard{serves: cert.Serves, scheme: "https", cookie: sharedCookie, forms: []string{"/whatif", "/login", "/logout"}}}
	s.server.admit = s.admit
	return s
}

// Run watches the cluster from when somebody may look, and keeps the certificate, until
// ctx ends.
func (s *Shared) Run(ctx context.Context) {
	var beside sync.WaitGroup
	beside.Go(func() { s.keep(ctx) })
	select {
	case <-ctx.Done():
	case <-s.opened:
		s.live.Run(ctx)
	}
	beside.Wait()
}

func (s *Shared) keep(ctx context.Context) {
	tick := time.NewTicker(door.KeepEvery)
	defer tick.Stop()
	for {
		if err := s.cert.Keep(ctx); err != nil && ctx.Err() == nil {
			s.log.Error(err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Serve answers on l, over TLS alone, until ctx ends.
func (s *Shared) Serve(ctx context.Context, l net.Listener) error {
	srv := server.HTTP(s.server.Handler())
	srv.BaseContext = func(net.Listener) context.Context { return ctx }
	srv.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.cert.Get}
	// Everybody who does not like the certificate would be a line of the log.
	srv.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.ServeTLS(server.Bound(l), "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the page: %w", err)
	}
	return nil
}

// errNoToken says that a request has none.
var errNoToken = errors.New("this page needs a token of the cluster")

// token returns the token of a request: that of its header, which a proxy may add, or that
// of the cookie.
func (s *Shared) token(r *http.Request) (string, error) {
	if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); scheme != "" {
		if !strings.EqualFold(scheme, "Bearer") {
			return "", errNoToken
		}
		return strings.TrimSpace(token), nil
	}
	c, err := r.Cookie(sharedCookie)
	if err != nil {
		return "", errNoToken
	}
	key, err := s.cert.Key()
	if err != nil {
		return "", err
	}
	token, err := door.Open(key, c.Value, time.Now())
	if err != nil {
		return "", errNoToken
	}
	return token, nil
}

// look returns the cluster as who sent r may see it.
func (s *Shared) look(r *http.Request) (visit, error) {
	token, err := s.token(r)
	if err != nil {
		return visit{}, err
	}
	visitor, err := s.door.Visitor(r.Context(), token)
	if err != nil {
		s.log.Debug("somebody is not let in", "error", err)
		return visit{}, err
	}
	s.wanted()
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if err := s.live.Started(ctx); err != nil {
		return visit{}, fmt.Errorf("the cluster has not been read yet: %w", err)
	}
	return visit{s.view(visitor), visitor.User}, nil
}

// view returns the value that all share who may read the same.
func (s *Shared) view(v *door.Visitor) *view {
	key := fmt.Sprint(v.Has)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.views[key] == nil {
		for k := range s.views { // any one is made again when it is asked for
			if len(s.views) < mostViews {
				break
			}
			delete(s.views, k)
		}
		s.views[key] = &view{source: limited{s.live, s.asked, v.Has}}
	}
	return s.views[key]
}

// limited is a Source with what somebody may read.
type limited struct {
	Source
	asked, has []survey.Access
}

func (l limited) Objects() *survey.Objects { return l.Source.Objects().Only(l.asked, l.has) }

// open are the files that the form for the token needs. They say nothing of the cluster.
var open = []string{"/static/page.css", "/static/icon.svg"}

// admit lets in who may look, and keeps the tokens of those who log in.
func (s *Shared) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case slices.Contains(open, r.URL.Path):
			next.ServeHTTP(w, r)
			return
		case r.Method == http.MethodPost && r.URL.Path == "/login":
			s.login(w, r)
			return
		case r.Method == http.MethodPost && r.URL.Path == "/logout":
			http.SetCookie(w, sealed("", -1))
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
		if _, err := s.look(r); err != nil {
			turnAway(w, r, err, r.URL.RequestURI())
			return
		}
		next.ServeHTTP(w, r)
	})
}

// mostSealed is what a browser keeps as one cookie.
const mostSealed = 4000

// errLong says that a token is longer.
var errLong = errors.New("the token is too long for a cookie: have a proxy send it as the header Authorization")

// login takes a token that somebody typed in, and gives it to their browser in a form that
// only the page can open: another server at the same host name may be sent the cookie.
func (s *Shared) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 32<<10)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "this is not the form", http.StatusRequestEntityTooLarge)
		return
	}
	token, to := strings.TrimSpace(r.PostForm.Get("token")), inside(r.PostForm.Get("to"))
	if _, err := s.door.Visitor(r.Context(), token); err != nil {
		turnAway(w, r, err, to)
		return
	}
	key, err := s.cert.Key()
	if err != nil {
		turnAway(w, r, err, to)
		return
	}
	value, err := door.Seal(key, token, time.Now().Add(door.Stay))
	if err == nil && len(value) > mostSealed {
		err = errLong
	}
	if err != nil {
		turnAway(w, r, err, to)
		return
	}
	http.SetCookie(w, sealed(value, int(door.Stay.Seconds())))
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func sealed(value string, age int) *http.Cookie {
	return &http.Cookie{Name: sharedCookie, Value: value, Path: "/", MaxAge: age, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

// inside returns to if it is a place of this page, and the first one otherwise.
func inside(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.Contains(to, `\`) {
		return "/"
	}
	return u.RequestURI()
}

// refusal returns the status and the text for who does not get in. What went wrong between
// the controller and the API server is not told: it names addresses.
func refusal(err error) (status int, why string) {
	switch {
	case errors.Is(err, errNoToken), errors.Is(err, door.ErrToken):
		return http.StatusUnauthorized, err.Error()
	case errors.Is(err, door.ErrRights):
		return http.StatusForbidden, err.Error()
	case errors.Is(err, door.ErrBusy):
		return http.StatusTooManyRequests, err.Error()
	case errors.Is(err, errLong):
		return http.StatusRequestHeaderFieldsTooLarge, err.Error()
	}
	return http.StatusServiceUnavailable, "the API server could not be asked: try again"
}

// turnAway says why somebody does not get in. A browser gets the form for a token.
func turnAway(w http.ResponseWriter, r *http.Request, err error, to string) {
	status, why := refusal(err)
	switch status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="fairlead"`)
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "60")
	}
	var b bytes.Buffer
	if !strings.Contains(r.Header.Get("Accept"), "text/html") || page.Login(why, to).Render(&b) != nil {
		http.Error(w, why, status)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}
