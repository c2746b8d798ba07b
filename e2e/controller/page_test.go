package controller_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairlead/fairlead/internal/cli"
	"github.com/fairlead/fairlead/internal/ui/door"
)

// soon is what a change may take to be on the page, on a machine that does ten times as
// much as it should: it takes less than a second.
const soon = 10 * time.Second

// TestPageInTheCluster: the page that the controller serves, with the rights of its
// ServiceAccount and no others, shows to each token what its owner may read, and to others
// nothing.
func TestPageInTheCluster(t *testing.T) {
	c := newCluster(t)
	c.install("default", "--set", "controller.page.enabled=true")
	program, args := c.commandLine()
	p := c.ship(program, args...)
	c.pool("lan", "192.0.2.0/30")
	c.service("web")
	c.holds("web", "192.0.2.0")
	shown := c.browser("https://" + valueOf(args, "--page-address"))
	all, view, none := c.account("page-all", "fairlead-support"), c.account("page-view", "fairlead-view"), c.account("page-none", "")
	for token, want := range map[string]int{"": http.StatusUnauthorized, "wrong": http.StatusUnauthorized, c.token(none, door.Audience): http.StatusForbidden, c.token(all, "somebody.else"): http.StatusUnauthorized} {
		for _, path := range []string{"/", "/services", "/live"} {
			if status, text := shown.get(path, token); status != want || strings.Contains(text, "default/web") {
				t.Errorf("%s with %.10q gets %d, want %d: %s", path, token, status, want, text)
			}
		}
	}
	whole, part := c.token(all, door.Audience), c.token(view, "")
	if status, text := shown.get("/services", whole); status != http.StatusOK || !strings.Contains(text, "default/web") || !strings.Contains(text, "192.0.2.0") {
		t.Errorf("who may read everything gets %d: %s", status, text)
	}
	if _, text := shown.get("/", whole); strings.Contains(text, "could not be read") {
		t.Errorf("who may read everything does not: %s", text)
	}
	if status, text := shown.get("/services", part); status != http.StatusOK || strings.Contains(text, "default/web") || !strings.Contains(text, "you may not list services: ask for the ClusterRole fairlead-support") {
		t.Errorf("who may read fairlead's kinds gets %d: %s", status, text)
	}
	if _, text := shown.get("/pools", part); !strings.Contains(text, "192.0.2.0") {
		t.Errorf("who may read fairlead's kinds does not see a pool: %s", text)
	}
	c.tokenIsForThePageAlone(whole)

	events := shown.live("/live?at=/services", whole)
	events.until("default/web")
	began := time.Now()
	c.service("second")
	events.until("default/second")
	c.quick(began)

	// Rights that are taken away count after 10 seconds, also on an open page.
	began = time.Now()
	c.must(c.Kube.RbacV1().ClusterRoleBindings().Delete(t.Context(), all, metav1.DeleteOptions{}))
	c.must(c.Kube.CoreV1().ServiceAccounts(release).Delete(t.Context(), view, metav1.DeleteOptions{}))
	events.until("Log in again")
	c.eventually("the end of the rights", func() error {
		a, _ := shown.get("/", whole)
		b, _ := shown.get("/", part)
		if a != http.StatusForbidden || b != http.StatusUnauthorized {
			return fmt.Errorf("a user without rights gets %d, an account that is gone %d", a, b)
		}
		return nil
	})
	t.Logf("rights ended after %v", time.Since(began).Round(100*time.Millisecond))
	p.stop()
	for line := range strings.Lines(p.said()) {
		if strings.Contains(strings.ToLower(line), "forbidden") || strings.Contains(line, whole) || strings.Contains(line, part) {
			t.Errorf("lacks a right, or logs a token: %s", line)
		}
	}
	if !strings.Contains(p.said(), "user=system:serviceaccount:"+release+":"+all) {
		t.Error("the log does not say who looked")
	}
}

// TestUIAsALimitedUser: fairlead ui shows what RBAC lets its user read, says what it does
// not, and has a change at once.
func TestUIAsALimitedUser(t *testing.T) {
	c := newCluster(t)
	c.start(options)
	c.pool("lan", "192.0.2.0/30")
	c.roles("view")
	shown := c.ui("view")
	status, text := shown.get("/pools", "")
	if status != http.StatusOK || !strings.Contains(text, "lan") {
		t.Errorf("the pools get %d: %s", status, text)
	}
	for _, kind := range []string{"services", "nodes", "pods", "leases"} {
		if !strings.Contains(text, kind+"</strong> could not be read: ") {
			t.Errorf("the page does not say that %s could not be read: %s", kind, text)
		}
	}
	for _, kind := range []string{"addresspools", "nodestates", "bgppeers"} {
		if strings.Contains(text, kind+"</strong> could not be read") {
			t.Errorf("%s could not be read: %s", kind, text)
		}
	}
	c.service("web")
	c.holds("web", "192.0.2.0")
	if _, text := shown.get("/services?q=web", ""); strings.Contains(text, "default/web") {
		t.Errorf("a Service is shown to who may not list them: %s", text)
	}
	events := shown.live("/live?at=/pools", "")
	events.until("lan")
	began := time.Now()
	c.pool("second", "192.0.2.8/30")
	events.until("second")
	c.quick(began)
}

// valueOf returns the value of a flag.
func valueOf(args []string, flag string) string {
	for _, a := range args {
		if value, ok := strings.CutPrefix(a, flag+"="); ok {
			return value
		}
	}
	return ""
}

// quick fails the test if a change that was made at began is only now on the page.
func (c *cluster) quick(began time.Time) {
	c.Helper()
	took := time.Since(began)
	c.Logf("on the page after %v", took.Round(time.Millisecond))
	if took > soon {
		c.Errorf("a change is on the page after %v", took)
	}
}

// account makes a ServiceAccount that has a ClusterRole, whose binding is called as it.
func (c *cluster) account(name, role string) string {
	c.Helper()
	_, err := c.Kube.CoreV1().ServiceAccounts(release).Create(c.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	c.must(err)
	c.Cleanup(func() {
		_ = c.Kube.CoreV1().ServiceAccounts(release).Delete(context.Background(), name, metav1.DeleteOptions{})
	})
	if role == "" {
		return name
	}
	_, err = c.Kube.RbacV1().ClusterRoleBindings().Create(c.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: release, Name: name}},
	}, metav1.CreateOptions{})
	c.must(err)
	c.Cleanup(func() {
		_ = c.Kube.RbacV1().ClusterRoleBindings().Delete(context.Background(), name, metav1.DeleteOptions{})
	})
	return name
}

// token makes a token of an account, for an audience or for the API server.
func (c *cluster) token(account, audience string) string {
	c.Helper()
	r := &authenticationv1.TokenRequest{}
	if audience != "" {
		r.Spec.Audiences = []string{audience}
	}
	r, err := c.Kube.CoreV1().ServiceAccounts(release).CreateToken(c.Context(), account, r, metav1.CreateOptions{})
	c.must(err)
	return r.Status.Token
}

// tokenIsForThePageAlone checks that the API server does not take it.
func (c *cluster) tokenIsForThePageAlone(token string) {
	c.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", server.Kubeconfig)
	c.must(err)
	client, err := cli.ClientOf(&rest.Config{Host: cfg.Host, BearerToken: token, TLSClientConfig: cfg.TLSClientConfig})
	c.must(err)
	if _, err := client.Kube.CoreV1().Services("default").List(c.Context(), metav1.ListOptions{}); err == nil {
		c.Error("the API server takes a token for the page")
	}
}

// viewer asks for pages.
type viewer struct {
	c      *cluster
	base   string
	client *http.Client
}

// browser trusts the certificate that the controller made, and waits until the page
// answers.
func (c *cluster) browser(base string) *viewer {
	c.Helper()
	roots := x509.NewCertPool()
	c.Cleanup(func() {
		_ = c.Kube.CoreV1().Secrets(release).Delete(context.Background(), door.OwnSecret, metav1.DeleteOptions{})
	})
	c.eventually("the page's certificate", func() error {
		s, err := c.Kube.CoreV1().Secrets(release).Get(c.Context(), door.OwnSecret, metav1.GetOptions{})
		if err == nil && !roots.AppendCertsFromPEM(s.Data[corev1.TLSCertKey]) {
			err = fmt.Errorf("it has no certificate: %v", s.Data)
		}
		return err
	})
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	c.Cleanup(tr.CloseIdleConnections)
	v := &viewer{c: c, base: base, client: &http.Client{Transport: tr, Timeout: time.Minute}}
	c.eventually("the page", func() error {
		resp, err := v.client.Get(base)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	})
	return v
}

// ui runs fairlead ui as a user, and opens its link.
func (c *cluster) ui(user string) *viewer {
	c.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", server.Kubeconfig)
	c.must(err)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
	in, out := io.Pipe()
	env := &cli.Env{Out: out, Err: io.Discard, Version: "test", Connect: func() (*cli.Client, error) { return cli.ClientOf(cfg) }}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	for _, cmd := range env.Commands() {
		if cmd.Name() == "ui" {
			cmd.SetArgs([]string{"--no-browser"})
			go func() { done <- cmd.ExecuteContext(ctx) }()
		}
	}
	c.Cleanup(func() {
		cancel()
		_ = in.Close()
		if err := <-done; err != nil {
			c.Error(err)
		}
	})
	line, err := bufio.NewReader(in).ReadString('\n')
	c.must(err)
	go func() { _, _ = io.Copy(io.Discard, in) }()
	_, link, _ := strings.Cut(strings.TrimSpace(line), "at ")
	u, err := url.Parse(link)
	c.must(err)
	jar, err := cookiejar.New(nil)
	c.must(err)
	v := &viewer{c: c, base: "http://" + u.Host, client: &http.Client{Jar: jar, Timeout: time.Minute}}
	if status, text := v.get(u.RequestURI(), ""); status != http.StatusOK {
		c.Fatalf("the link gets %d: %s", status, text)
	}
	return v
}

func (v *viewer) do(path, token string) *http.Response {
	v.c.Helper()
	r, err := http.NewRequestWithContext(v.c.Context(), http.MethodGet, v.base+path, nil)
	v.c.must(err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := v.client.Do(r)
	v.c.must(err)
	v.c.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// get returns what a page answers.
func (v *viewer) get(path, token string) (int, string) {
	v.c.Helper()
	resp := v.do(path, token)
	text, err := io.ReadAll(resp.Body)
	v.c.must(err)
	return resp.StatusCode, string(text)
}

// stream is what an open page is sent.
type stream struct {
	c     *cluster
	lines *bufio.Scanner
}

func (v *viewer) live(path, token string) *stream {
	v.c.Helper()
	s := &stream{c: v.c, lines: bufio.NewScanner(v.do(path, token).Body)}
	s.lines.Buffer(nil, 10<<20)
	return s
}

// until reads until something is on the page.
func (s *stream) until(want string) {
	s.c.Helper()
	for s.lines.Scan() {
		if strings.HasPrefix(s.lines.Text(), "data: ") && strings.Contains(s.lines.Text(), want) {
			return
		}
	}
	s.c.Fatalf("the page ends before %s: %v", want, s.lines.Err())
}
