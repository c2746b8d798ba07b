package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/probe"
)

func TestServerAnswersOnEveryProtocol(t *testing.T) {
	port := freePort(t)
	other := freePort(t)
	s, err := newServer(port, other, port)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.run(ctx, 0) }()
	for _, target := range []string{"http://127.0.0.1:" + port + "/", "tcp://127.0.0.1:" + other, "udp://127.0.0.1:" + port} {
		r := ask(t, target)
		if r.Failures != 0 || r.Requests != 5 || r.Distinct != 1 || len(r.Clients) != 1 || r.Clients[0] != "127.0.0.1" {
			t.Errorf("%s: %+v", target, r)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestReadinessIsToggled(t *testing.T) {
	port := freePort(t)
	s, err := newServer(port, "", "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go s.run(ctx, 0)
	base := "http://127.0.0.1:" + port + "/ready"
	for _, step := range []struct {
		set  string
		want int
	}{{"", 200}, {"?ok=false", 503}, {"?ok=true", 200}} {
		if step.set != "" {
			post, err := http.Post(base+step.set, "", strings.NewReader(""))
			if err != nil {
				t.Fatal(err)
			}
			post.Body.Close()
		}
		response, err := http.Get(base)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != step.want {
			t.Errorf("after %q: status %d, want %d", step.set, response.StatusCode, step.want)
		}
	}
}

func TestBytes(t *testing.T) {
	s := httptest.NewServer((&server{}).handler())
	defer s.Close()
	for query, want := range map[string]int{"n=0": 0, "n=70000": 70000, "n=": -1, "n=-1": -1, "n=9000000000": -1} {
		response, err := http.Get(s.URL + "/bytes?" + query)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(response.Body)
		response.Body.Close()
		if got := len(data); err != nil || (response.StatusCode == http.StatusOK) != (want >= 0) || want >= 0 && got != want {
			t.Errorf("%s: %s with %d bytes, %v", query, response.Status, got, err)
		}
	}
}

func ask(t *testing.T, target string) probe.Report {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := probe.Probe{Target: u, Requests: 5, Workers: 2, Timeout: 10 * time.Second}
	return probe.Summarise(target, p.Run(t.Context()))
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
