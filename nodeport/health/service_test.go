package health

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport"
)

var web = snapshot.Ref{Namespace: "default", Name: "web"}

// free returns a port of a loopback address that nobody listens on.
func free(t *testing.T, ip string) netip.AddrPort {
	t.Helper()
	l := listen(t, netip.AddrPortFrom(netip.MustParseAddr(ip), 0))
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

func listen(t *testing.T, at netip.AddrPort) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newServers(t *testing.T, p *Proxy) *Servers {
	s := NewServers(p, slog.New(slog.DiscardHandler))
	t.Cleanup(s.Close)
	return s
}

// get returns the answer of a health check port, or "closed".
func get(t *testing.T, at netip.AddrPort, path string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + at.String() + path)
	if err != nil {
		return "closed"
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	h := resp.Header
	return strings.Join([]string{
		resp.Status, h.Get("Content-Type"), h.Get("X-Content-Type-Options"), h.Get("X-Load-Balancing-Endpoint-Weight"), string(body),
	}, "\n")
}

func answer(status, weight, healthy string) string {
	return status + "\napplication/json\nnosniff\n" + weight + "\n{\n\t\"service\": {\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"web\"\n\t},\n" +
		"\t\"localEndpoints\": " + weight + ",\n\t\"serviceProxyHealthy\": " + healthy + "\n}"
}

// spec 51, 52, 53, 54: code, headers and body, on any path, follow the count of
// endpoints and the health of the proxy.
func TestAnswers(t *testing.T) {
	p := &Proxy{}
	s := newServers(t, p)
	for _, ip := range []string{"127.0.0.1", "::1"} {
		at := free(t, ip)
		check := func(local int, want string) {
			t.Helper()
			if problems := s.Sync(t.Context(), []nodeport.Listener{{Service: web, Addr: at, Local: local}}); problems != nil {
				t.Fatal(problems)
			}
			for _, path := range []string{"/", "/any/path"} {
				if got := get(t, at, path); got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
			}
		}
		check(18, answer("200 OK", "18", "true"))
		check(0, answer("503 Service Unavailable", "0", "true"))
		long := time.Now().Add(-2 * Timeout)
		succeed(p, families...)
		p.Queued(long)
		check(3, answer("503 Service Unavailable", "3", "false"))
		p.Synced(snapshot.IPv4, time.Now(), time.Now())
		p.Synced(snapshot.IPv6, time.Now(), time.Now())
		check(3, answer("200 OK", "3", "true"))
	}
}

// spec 52, 55: a port that is not wanted any more closes, one that is wanted
// again answers again, and an unknown Service's is none.
func TestPortsOpenAndClose(t *testing.T) {
	s := newServers(t, &Proxy{})
	first, second := free(t, "127.0.0.1"), free(t, "127.0.0.1")
	want := func(at netip.AddrPort, open bool) {
		t.Helper()
		if got := get(t, at, "/"); (got != "closed") != open {
			t.Errorf("%s: got %q, want open=%v", at, got, open)
		}
	}
	s.Sync(t.Context(), []nodeport.Listener{{Service: web, Addr: first, Local: 1}})
	want(first, true)
	s.Sync(t.Context(), []nodeport.Listener{{Service: web, Addr: second, Local: 1}})
	want(first, false)
	want(second, true)
	s.Sync(t.Context(), nil)
	want(second, false)
	s.Sync(t.Context(), []nodeport.Listener{{Service: web, Addr: second, Local: 1}})
	want(second, true)
	other := snapshot.Ref{Namespace: "default", Name: "other"} // takes the port over
	s.Sync(t.Context(), []nodeport.Listener{{Service: other, Addr: second, Local: 1}})
	if got := get(t, second, "/"); !strings.Contains(got, `"name": "other"`) {
		t.Errorf("got %s", got)
	}
}

// A port that somebody else has is a problem of the Service, the other ports
// answer, and it is opened once it is free.
func TestPortOfSomebodyElse(t *testing.T) {
	s := newServers(t, &Proxy{})
	taken, open := free(t, "127.0.0.1"), free(t, "127.0.0.1")
	squatter := listen(t, taken)
	want := []nodeport.Listener{{Service: web, Addr: taken, Local: 1}, {Service: web, Addr: open, Local: 1}}
	problems := s.Sync(t.Context(), want)
	if len(problems) != 1 || problems[0].Service != web || problems[0].Reason != nodeport.HealthCheckFailed ||
		!strings.Contains(problems[0].Message, "address already in use") {
		t.Errorf("got %+v", problems)
	}
	if got := get(t, open, "/"); got != answer("200 OK", "1", "true") {
		t.Errorf("the other address: got %s", got)
	}
	squatter.Close()
	if problems := s.Sync(t.Context(), want); problems != nil {
		t.Errorf("got %+v", problems)
	}
	if got := get(t, taken, "/"); got != answer("200 OK", "1", "true") {
		t.Errorf("got %s", got)
	}
}
