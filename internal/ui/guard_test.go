package ui

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/cli/survey"
)

// Who may see the page, and what a request of another site gets.
func TestGuard(t *testing.T) {
	const host = "127.0.0.1:8099"
	s := New(Options{Source: still{objects: &survey.Objects{}}}, host)
	h := s.Handler()
	ask := func(method, path, host string, header ...string) *http.Response {
		t.Helper()
		r := httptest.NewRequest(method, path, strings.NewReader("manifests="))
		r.Host = host
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Result()
	}
	link := strings.TrimPrefix(s.Link(), "http://"+host)
	if got := ask("GET", link, "evil.example:8099").StatusCode; got != http.StatusMisdirectedRequest {
		t.Errorf("a name that resolves to this machine gets %d", got)
	}
	opened := ask("GET", link, host)
	if opened.StatusCode != http.StatusSeeOther || len(opened.Cookies()) != 1 {
		t.Fatalf("the link gets %d and %v", opened.StatusCode, opened.Cookies())
	}
	c := opened.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode {
		t.Errorf("the cookie is %v", c)
	}
	cookie := c.Name + "=" + c.Value
	for what, c := range map[string]struct {
		got  *http.Response
		want int
	}{
		"the link again":                {ask("GET", link, host), http.StatusForbidden},
		"a wrong token":                 {ask("GET", "/?token=x", host), http.StatusForbidden},
		"no token":                      {ask("GET", "/?token=", host), http.StatusForbidden},
		"no cookie":                     {ask("GET", "/doctor", host), http.StatusForbidden},
		"no cookie, a script":           {ask("GET", "/static/htmx.min.js", host), http.StatusForbidden},
		"the cookie":                    {ask("GET", "/doctor", host, "Cookie", cookie), http.StatusOK},
		"the cookie, by localhost":      {ask("GET", "/doctor", "localhost:8099", "Cookie", cookie), http.StatusOK},
		"another host":                  {ask("GET", "/doctor", "evil.example", "Cookie", cookie), http.StatusMisdirectedRequest},
		"another port":                  {ask("GET", "/doctor", "127.0.0.1:80", "Cookie", cookie), http.StatusMisdirectedRequest},
		"a form of another site":        {ask("POST", "/whatif", host, "Cookie", cookie, "Origin", "http://evil.example"), http.StatusForbidden},
		"a form of no site":             {ask("POST", "/whatif", host, "Cookie", cookie), http.StatusForbidden},
		"a form of this site":           {ask("POST", "/whatif", host, "Cookie", cookie, "Origin", "http://"+host), http.StatusOK},
		"a form that nobody serves":     {ask("POST", "/doctor", host, "Cookie", cookie, "Origin", "http://"+host), http.StatusMethodNotAllowed},
		"a deletion":                    {ask("DELETE", "/", host, "Cookie", cookie), http.StatusMethodNotAllowed},
		"a read by another site":        {ask("GET", "/doctor", host, "Cookie", cookie, "Origin", "null"), http.StatusForbidden},
		"a page that is not there":      {ask("GET", "/nothing", host, "Cookie", cookie), http.StatusNotFound},
		"a folder outside of the files": {ask("GET", "/static/../server.go", host, "Cookie", cookie), http.StatusTemporaryRedirect},
	} {
		if c.got.StatusCode != c.want {
			t.Errorf("%s gets %d instead of %d", what, c.got.StatusCode, c.want)
		}
		if got := c.got.Header.Get("Content-Security-Policy"); got != policy {
			t.Errorf("%s has the policy %q", what, got)
		}
	}
}

// still is a Source that never changes.
type still struct{ objects *survey.Objects }

func (s still) Objects() *survey.Objects { return s.objects }
func (still) Changed() <-chan struct{}   { return nil }
func (still) Refresh(context.Context)    {}
