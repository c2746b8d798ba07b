package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/internal/proxies"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/nodeport/health"
)

// get is what a node answers at url: code and body, or "closed".
func get(t *testing.T, node nstest.Space, url string) (text string) {
	t.Helper()
	node.Do(t, func() error {
		conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp4", strings.Split(url, "/")[2])
		if err != nil {
			text = "closed"
			return nil
		}
		used := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
		resp, err := (&http.Client{Transport: used}).Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		text = fmt.Sprint(resp.StatusCode, " ", string(body))
		return err
	})
	return text
}

// open opens an agent's ports in node until the returned function is called.
func open(t *testing.T, node nstest.Space, proxy proxies.Name) (stop func()) {
	t.Helper()
	a, _ := newAgent(t, Full)
	a.engine.proxy = proxy
	a.health.SetEligible(true)
	now := time.Now()
	a.health.Synced(snapshot.IPv4, now, now)
	a.health.Synced(snapshot.IPv6, now, now)
	ctx, cancel := context.WithCancel(t.Context())
	g, ctx := errgroup.WithContext(ctx)
	node.Do(t, func() error {
		at := Addresses{Health: "0.0.0.0:10256", Metrics: "127.0.0.1:10249"}
		a.openPorts(ctx, g, at, health.NewProbes(&a.health, nil), prometheus.NewRegistry())
		return nil
	})
	return func() {
		cancel()
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// spec 98: where fairlead forwards, 10256 and 10249 answer as kube-proxy's do;
// where another proxy forwards, they are left to it.
func TestPortsOfTheProxy(t *testing.T) {
	node := nstest.New(t, "node")
	const healthz, mode = "http://127.0.0.1:10256/healthz", "http://127.0.0.1:10249/proxyMode"
	stop := open(t, node, Fairlead)
	if got := get(t, node, healthz); !strings.HasPrefix(got, `200 {"lastUpdated":`) || !strings.Contains(got, `"nodeEligible":true`) {
		t.Errorf("healthz: %s", got)
	}
	if got := get(t, node, mode); got != "200 fake" {
		t.Errorf("proxyMode: %s", got)
	}
	stop()
	stop = open(t, node, proxies.KubeProxy)
	defer stop()
	if get(t, node, healthz) != "closed" || get(t, node, mode) != "closed" {
		t.Error("beside another proxy the ports are open")
	}
}
