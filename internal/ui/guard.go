package ui

import (
	"crypto/rand"
	"crypto/subtle"
	"net/http"
	"slices"
	"sync"
)

// policy lets a page load its own files and nothing else, and be shown in no other page.
const policy = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// guard lets in who has the link, and keeps out other sites that a browser has open.
type guard struct {
	serves func(host string) bool // a request may name it: not a name that is made to resolve to this machine
	scheme string
	cookie string
	forms  []string // that may be sent

	mu      sync.Mutex
	token   string // of the link; "" once it was used
	session string
}

// newGuard returns a guard with a link that is good once.
func newGuard(hosts []string, cookie string) *guard {
	serves := func(host string) bool { return slices.Contains(hosts, host) }
	return &guard{serves: serves, scheme: "http", cookie: cookie, forms: []string{"/whatif"}, token: rand.Text(), session: rand.Text()}
}

// protect sets what every answer has, and refuses what no page of ours sends.
func (g *guard) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for k, v := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store",
		} {
			w.Header().Set(k, v)
		}
		switch origin := r.Header.Get("Origin"); {
		case !g.serves(r.Host):
			http.Error(w, "this page is not served under that name", http.StatusMisdirectedRequest)
		case origin != "" && origin != g.scheme+"://"+r.Host, origin == "" && r.Method == http.MethodPost:
			http.Error(w, "another site sent this request", http.StatusForbidden)
		case r.Method != http.MethodGet && r.Method != http.MethodHead && (r.Method != http.MethodPost || !slices.Contains(g.forms, r.URL.Path)):
			http.Error(w, "this page changes nothing", http.StatusMethodNotAllowed)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// linked lets in who came with the link, or has the cookie that the link gave.
func (g *guard) linked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := r.Cookie(g.cookie)
		switch {
		case err == nil && same(c.Value, g.session):
			next.ServeHTTP(w, r)
		case r.Method == http.MethodGet && r.URL.Path == "/" && g.use(r.URL.Query().Get("token")):
			http.SetCookie(w, &http.Cookie{Name: g.cookie, Value: g.session, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
			http.Redirect(w, r, "/", http.StatusSeeOther)
		default:
			http.Error(w, "The link that fairlead ui printed opens this page, once and in one browser. Start fairlead ui again for another link.", http.StatusForbidden)
		}
	})
}

// use reports whether token is that of the link, and takes it away.
func (g *guard) use(token string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.token == "" || !same(token, g.token) {
		return false
	}
	g.token = ""
	return true
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
