package ui

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/cli/survey"
	"github.com/fairlead/fairlead/internal/ui/door"
)

// watched is a cluster that a test changes.
type watched struct {
	moving
	ran chan struct{}
}

func (w *watched) Run(ctx context.Context) { close(w.ran); <-ctx.Done() }

func (w *watched) Started(ctx context.Context) error {
	select {
	case <-w.ran:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func typed(kind, group string) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: kind, APIVersion: strings.TrimPrefix(group+"/v1", "/")}
}

func shopService(name string) runtime.Object {
	return &corev1.Service{TypeMeta: typed("Service", ""), ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer}}
}

// shared is a page that is served over TLS, for tokens that are called as their owners.
type shared struct {
	t       *testing.T
	page    *Shared
	cluster *watched
	at      string // host and port
	roots   *x509.CertPool

	mu  sync.Mutex
	may map[string][]string // resources, by user
}

func newShared(t *testing.T) *shared {
	t.Helper()
	s := &shared{t: t, may: map[string][]string{
		"all": {"services", "addresspools", "nodes", "namespaces"}, "pools": {"addresspools"}, "nothing": {},
	}}
	client := fake.NewClientset()
	client.PrependReactor("create", "tokenreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		r := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		_, r.Status.Authenticated = s.may[r.Spec.Token]
		r.Status.User.Username = r.Spec.Token
		return true, r, nil
	})
	client.PrependReactor("create", "subjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		r := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		r.Status.Allowed = slices.Contains(s.may[r.Spec.User], r.Spec.ResourceAttributes.Resource)
		return true, r, nil
	})
	s.cluster = &watched{ran: make(chan struct{}), moving: moving{changed: make(chan struct{})}}
	s.cluster.objects.Now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	s.cluster.add(shopService("web"))
	s.cluster.add(&v1alpha1.AddressPool{TypeMeta: typed("AddressPool", "fairlead.io"), ObjectMeta: metav1.ObjectMeta{Name: "lan"}, Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"192.0.2.0/30"}}})
	log := slog.New(slog.DiscardHandler)
	cert := &door.Certificate{Client: client, Namespace: "ns", Names: []string{"page.example.com"}, Log: log}
	asked := survey.Accesses("ns")
	s.page = NewShared(Options{}, door.New(client, asked, log), cert, s.cluster, asked, log)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.at = l.Addr().String()
	if err := cert.Keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { s.page.Run(ctx) })
	all.Go(func() {
		if err := s.page.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); all.Wait() })
	pair, err := cert.Get(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.roots = x509.NewCertPool()
	s.roots.AddCert(pair.Leaf)
	return s
}

// client is a browser that follows no redirect, in HTTP/1.1 or 2.
func (s *shared) client(http2 bool) *http.Client {
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots}, ForceAttemptHTTP2: http2}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// ask sends a request with headers, which are names and values in turn.
func (s *shared) ask(c *http.Client, method, path, body string, header ...string) (int, string, http.Header) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, "https://"+s.at+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(data), resp.Header
}

// Without a valid token nothing is told, with one what its owner may read.
func TestShared(t *testing.T) {
	s := newShared(t)
	c := s.client(false)
	select {
	case <-s.cluster.ran:
		t.Error("the cluster is read before somebody may look")
	default:
	}
	own := "https://" + s.at
	for _, path := range []string{"/", "/services", "/services/shop/web", "/doctor", "/live", "/live?at=/services", "/story?name=x", "/static/htmx.min.js", "/static/", "/login", "/nothing", "/static/../services"} {
		for what, header := range map[string][]string{
			"nothing": nil, "a wrong token": {"Authorization", "Bearer wrong"}, "no bearer token": {"Authorization", "Basic YWxsOmFsbA=="},
			"an empty token": {"Authorization", "Bearer "}, "a token as the cookie": {"Cookie", sharedCookie + "=all"}, "a cookie of the past": {"Cookie", sharedCookie + "=AAAA"},
		} {
			status, text, h := s.ask(c, "GET", path, "", header...)
			if status != http.StatusUnauthorized || h.Get("WWW-Authenticate") == "" || strings.Contains(text, "shop") {
				t.Errorf("%s with %s gets %d: %s", path, what, status, text)
			}
		}
		if status, text, _ := s.ask(c, "GET", path, "", "Authorization", "Bearer nothing"); status != http.StatusForbidden || strings.Contains(text, "shop") {
			t.Errorf("%s without rights gets %d: %s", path, status, text)
		}
	}
	for _, path := range open {
		if status, _, _ := s.ask(c, "GET", path, ""); status != http.StatusOK {
			t.Errorf("%s gets %d: the form has no style", path, status)
		}
	}
	if status, _, _ := s.ask(c, "POST", "/whatif", "manifests=", "Origin", own); status != http.StatusUnauthorized {
		t.Errorf("a form without a token gets %d", status)
	}
	select {
	case <-s.cluster.ran:
		t.Error("the cluster is read although nobody may look")
	default:
	}
	if status, text, _ := s.ask(c, "GET", "/services", "", "Authorization", "bearer all"); status != http.StatusOK || !strings.Contains(text, "shop/web") || strings.Contains(text, "Log out") {
		t.Errorf("who may read everything gets %d: %s", status, text)
	}
	status, text, _ := s.ask(c, "GET", "/services", "", "Authorization", "Bearer pools")
	if status != http.StatusOK || strings.Contains(text, "web") || !strings.Contains(text, "services</strong> could not be read: you may not list services: ask for the ClusterRole fairlead-support") {
		t.Errorf("who may read pools gets %d: %s", status, text)
	}
	if _, text, _ := s.ask(c, "GET", "/pools", "", "Authorization", "Bearer pools"); !strings.Contains(text, "lan") {
		t.Error("who may read pools sees none")
	}
	manifest := url.Values{"manifests": {"apiVersion: v1\nkind: Service\nmetadata: {name: new, namespace: shop}\nspec: {type: LoadBalancer, ports: [{port: 80}]}\n"}}.Encode()
	if status, text, _ := s.ask(c, "POST", "/whatif", manifest, "Authorization", "Bearer all", "Origin", own); status != http.StatusOK || !strings.Contains(text, "192.0.2.") {
		t.Errorf("what if gets %d: %s", status, text)
	}
}

// A request of another site, or for another host, gets nothing, no matter whose token it has.
func TestSharedGuard(t *testing.T) {
	s := newShared(t)
	c := s.client(false)
	own, token := "https://"+s.at, []string{"Authorization", "Bearer all"}
	for what, r := range map[string]struct {
		method, path string
		header       []string
		want         int
	}{
		"its own name":             {"GET", "/", []string{"Host", "page.example.com"}, http.StatusOK},
		"a port of a tunnel":       {"GET", "/", []string{"Host", "localhost:8443"}, http.StatusOK},
		"another name":             {"GET", "/", []string{"Host", "evil.example"}, http.StatusMisdirectedRequest},
		"another name, the style":  {"GET", "/static/page.css", []string{"Host", "evil.example"}, http.StatusMisdirectedRequest},
		"another name, the form":   {"POST", "/login", []string{"Host", "evil.example", "Origin", "https://evil.example"}, http.StatusMisdirectedRequest},
		"another site":             {"GET", "/", []string{"Origin", "https://evil.example"}, http.StatusForbidden},
		"the same without TLS":     {"GET", "/", []string{"Origin", "http://" + s.at}, http.StatusForbidden},
		"no site":                  {"GET", "/", []string{"Origin", "null"}, http.StatusForbidden},
		"a form of this site":      {"POST", "/whatif", []string{"Origin", own}, http.StatusOK},
		"a form of another site":   {"POST", "/whatif", []string{"Origin", "https://evil.example"}, http.StatusForbidden},
		"a login by another site":  {"POST", "/login", []string{"Origin", "https://evil.example"}, http.StatusForbidden},
		"a logout by another site": {"POST", "/logout", []string{"Origin", "https://evil.example"}, http.StatusForbidden},
		"a login of no site":       {"POST", "/login", nil, http.StatusForbidden},
		"a form that is none":      {"POST", "/services", []string{"Origin", own}, http.StatusMethodNotAllowed},
		"a deletion":               {"DELETE", "/", []string{"Origin", own}, http.StatusMethodNotAllowed},
	} {
		status, _, h := s.ask(c, r.method, r.path, "token=all", append(r.header, token...)...)
		if status != r.want || h.Get("Content-Security-Policy") != policy || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s gets %d instead of %d, with %v", what, status, r.want, h)
		}
		if h.Get("Set-Cookie") != "" {
			t.Errorf("%s gets a cookie", what)
		}
	}
	resp, err := http.Get("http://" + s.at + "/services") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("without TLS it answers %s", resp.Status)
	}
}

// A token that is typed in opens the page, for an hour and in one browser; the browser
// does not have the token itself.
func TestSharedLogin(t *testing.T) {
	s := newShared(t)
	c := s.client(false)
	own := []string{"Origin", "https://" + s.at, "Accept", "text/html"}
	form := func(token, to string) string { return url.Values{"token": {token}, "to": {to}}.Encode() }
	status, text, _ := s.ask(c, "GET", "/services?q=%3Cscript%3E", "", own...)
	if status != http.StatusUnauthorized || !strings.Contains(text, `action="/login"`) || !strings.Contains(text, "/services?q=%3Cscript%3E") || strings.Contains(text, "<script") {
		t.Errorf("a browser gets %d: %s", status, text)
	}
	for token, want := range map[string]int{"wrong": http.StatusUnauthorized, "nothing": http.StatusForbidden, "": http.StatusUnauthorized, "a\nb": http.StatusUnauthorized, strings.Repeat("x", 40<<10): http.StatusRequestEntityTooLarge} {
		status, text, h := s.ask(c, "POST", "/login", form(token, "/"), own...)
		if status != want || h.Get("Set-Cookie") != "" || token == "wrong" && strings.Contains(text, "wrong") {
			t.Errorf("%.9q gets %d, %v: %s", token, status, h, text)
		}
	}
	for to, want := range map[string]string{"/services/shop/web?from=1": "/services/shop/web?from=1", "https://evil.example/": "/", "//evil.example": "/", `/\evil.example`: "/", "javascript:alert(1)": "/", "": "/", "nodes": "/"} {
		if status, _, h := s.ask(c, "POST", "/login", form(" all\n", to), own...); status != http.StatusSeeOther || h.Get("Location") != want {
			t.Errorf("%q leads to %q", to, h.Get("Location"))
		}
	}
	_, _, h := s.ask(c, "POST", "/login", form("all", "/"), own...)
	for _, want := range []string{sharedCookie + "=", "Path=/;", "Max-Age=3600", "HttpOnly", "Secure", "SameSite=Strict"} {
		if !strings.Contains(h.Get("Set-Cookie"), want) {
			t.Errorf("the cookie lacks %s: %s", want, h.Get("Set-Cookie"))
		}
	}
	cookie, _, _ := strings.Cut(h.Get("Set-Cookie"), ";")
	if status, text, _ := s.ask(c, "GET", "/services", "", "Cookie", cookie); status != http.StatusOK || !strings.Contains(text, "shop/web") || !strings.Contains(text, "Log out") {
		t.Errorf("the cookie gets %d: %s", status, text)
	}
	if status, _, _ := s.ask(c, "GET", "/services", "", "Cookie", cookie, "Authorization", "Bearer wrong"); status != http.StatusUnauthorized {
		t.Errorf("a wrong token beside the cookie gets %d", status)
	}
	if _, _, h := s.ask(c, "POST", "/logout", "", append(own, "Cookie", cookie)...); !strings.Contains(h.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("the cookie stays: %v", h)
	}
	s.mu.Lock()
	long := strings.Repeat("l", 4000)
	s.may[long] = s.may["all"]
	s.mu.Unlock()
	if status, _, h := s.ask(c, "POST", "/login", form(long, "/"), own...); status != http.StatusRequestHeaderFieldsTooLarge || h.Get("Set-Cookie") != "" {
		t.Errorf("a token that no cookie holds gets %d", status)
	}
	if status, _, _ := s.ask(c, "GET", "/services", "", "Authorization", "Bearer "+long); status != http.StatusOK {
		t.Errorf("a long token in the header gets %d", status)
	}
	if status, why := refusal(errors.New("dial tcp 192.0.2.1:6443: connection refused")); status != http.StatusServiceUnavailable || strings.Contains(why, "192.0.2.1") {
		t.Errorf("%d: %s", status, why)
	}
	key, err := s.page.cert.Key()
	if err != nil {
		t.Fatal(err)
	}
	old, err := door.Seal(key, "all", time.Now().Add(-time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if status, _, _ := s.ask(c, "GET", "/services", "", "Cookie", sharedCookie+"="+old); status != http.StatusUnauthorized {
		t.Errorf("an old cookie gets %d", status)
	}
}

// An open page loses what its viewer may not see any longer, and ends with their token.
func TestSharedLive(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			s := newShared(t)
			s.page.server.recheck = 50 * time.Millisecond
			var now struct {
				sync.Mutex
				visit
				err error
			}
			look := s.page.server.look
			s.page.server.look = func(r *http.Request) (visit, error) { // the door's 10 seconds are its own test's
				now.Lock()
				defer now.Unlock()
				if now.view != nil || now.err != nil {
					return now.visit, now.err
				}
				return look(r)
			}
			r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+s.at+"/live?at=/services", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer all")
			resp, err := s.client(http2).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if (resp.ProtoMajor == 2) != http2 {
				t.Errorf("it speaks %s", resp.Proto)
			}
			events, next := pagesOf(t, resp.Body)
			next("shop/web")
			s.cluster.add(shopService("new"))
			next("shop/new")
			now.Lock()
			now.visit = visit{s.page.view(&door.Visitor{Has: []survey.Access{{Verb: "list", Group: "fairlead.io", Resource: "addresspools"}}}), "all"}
			now.Unlock()
			next("you may not list services")
			now.Lock()
			now.err = door.ErrToken
			now.Unlock()
			next("Log in again")
			for events.Scan() {
				if strings.Contains(events.Text(), "shop") {
					t.Errorf("after the end comes %s", events.Text())
				}
			}
		})
	}
}

// Nobody keeps others from an open page, and few values of the cluster are kept.
func TestSharedBounds(t *testing.T) {
	p := newPlaces(4, 2)
	var leave []func()
	for _, c := range []struct {
		who string
		ok  bool
	}{{"ann", true}, {"ann", true}, {"ann", false}, {"bob", true}, {"cy", true}, {"dan", false}} {
		end, ok := p.take(c.who)
		if ok != c.ok {
			t.Errorf("%s gets a place: %v", c.who, ok)
		}
		leave = append(leave, end)
	}
	for _, end := range leave {
		end()
	}
	if p.n != 0 || len(p.open) != 0 {
		t.Errorf("%d places are taken, %v", p.n, p.open)
	}
	s := newShared(t)
	asked := survey.Accesses("ns")
	for i := range asked {
		s.page.view(&door.Visitor{Has: asked[:i]})
	}
	if n := len(s.page.views); n > mostViews {
		t.Errorf("%d values", n)
	}
	if s.page.view(&door.Visitor{Has: asked}) != s.page.view(&door.Visitor{Has: asked, User: "other"}) {
		t.Error("who may read the same does not share a value")
	}
}
