package agent

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/server"
	"github.com/fairlead/fairlead/internal/traffic"
	"github.com/fairlead/fairlead/internal/traffic/sample"
	"github.com/fairlead/fairlead/nodeport/health"
)

// Addresses say where an agent answers; an empty one is not opened.
type Addresses struct {
	Probe   string // /livez, /readyz and /metrics, for the kubelet, also where another proxy forwards
	Health  string // kube-proxy's /healthz and /livez
	Metrics string // /metrics and kube-proxy's /proxyMode
}

// The ports that belong to the proxy that forwards.
const (
	healthPort  = "10256"
	metricsPort = "10249"
)

// Serve decides who forwards, answers on the addresses, and runs the agent until
// ctx ends or something fails for good.
func (a *Agent) Serve(ctx context.Context, at Addresses, reg prometheus.Gatherer) error {
	mux := server.Metrics(reg)
	probes := health.NewProbes(&a.health, a.cfg.Metrics)
	mux.HandleFunc("/livez", probes.Livez)
	mux.HandleFunc("/readyz", a.readyz)
	mux.Handle(traffic.Path, a.samples())
	serve, err := server.Listen(at.Probe, mux)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serve(ctx) })
	g.Go(func() error { return a.forwardOrLeave(ctx, g, at, probes, reg) })
	return g.Wait()
}

// samples answers what goes through the addresses that Services hold.
func (a *Agent) samples() http.Handler {
	return &sample.Handler{Node: a.cfg.Node, VIPs: a.vips, Flows: sample.Flows, Counts: a.countsBytes}
}

// forwardOrLeave decides, opens the ports that the decision allows, and runs.
func (a *Agent) forwardOrLeave(ctx context.Context, g *errgroup.Group, at Addresses, probes *health.Probes, reg prometheus.Gatherer) error {
	a.cluster.recall()
	a.neighbours.load(a.cluster.saved)
	now, err := a.chooseProxy(ctx)
	a.engine.proxy = now.Proxy
	select {
	case <-ctx.Done():
		return nil // told to stop before it was decided
	default:
	}
	if err != nil {
		return err
	}
	a.say(now)
	a.openPorts(ctx, g, at, probes, reg)
	g.Go(func() error { return a.watchOthers(ctx) })
	return a.Run(ctx)
}

// openPorts opens the ports that are kube-proxy's by default, until yield is called.
func (a *Agent) openPorts(ctx context.Context, g *errgroup.Group, at Addresses, probes *health.Probes, reg prometheus.Gatherer) {
	// Another proxy that comes can answer only once its ports are free.
	ctx, a.yield = context.WithCancel(ctx)
	answers := http.NewServeMux()
	answers.HandleFunc("/healthz", probes.Healthz)
	answers.HandleFunc("/livez", probes.Livez)
	answers.HandleFunc("/readyz", a.readyz)
	answers.Handle(traffic.Path, a.samples())
	a.open(ctx, g, at.Health, healthPort, answers)
	metrics := server.Metrics(reg)
	metrics.HandleFunc("/proxyMode", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, a.cfg.Engine) })
	a.open(ctx, g, at.Metrics, metricsPort, metrics)
}

// open serves mux at address, but not on the port that belongs to another proxy if one
// forwards. A port that is taken it waits for: the agent forwards without it.
func (a *Agent) open(ctx context.Context, g *errgroup.Group, address, reserved string, mux http.Handler) {
	_, port, _ := net.SplitHostPort(address)
	if address == "" || a.engine.proxy != Fairlead && port == reserved {
		return
	}
	serve, err := a.others.listen(address, mux)
	if err == nil {
		g.Go(func() error { return serve(ctx) })
		return
	}
	a.cfg.Log.Warn("waiting for a port", "error", err)
	loop := reconcile.New("port "+port, a.cfg.Log)
	g.Go(func() error {
		loop.Run(ctx, func(ctx context.Context) error {
			serve, err := a.others.listen(address, mux)
			if err != nil {
				return err
			}
			return serve(ctx)
		})
		return nil
	})
}

// portOf returns the port of an address to listen on; 0 without one.
func portOf(address string) uint16 {
	_, text, _ := net.SplitHostPort(address)
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(port)
}

// readyz reports whether the node does what it is to do: the engine was in sync
// at least once, or the proxy that forwards instead has been asked.
func (a *Agent) readyz(w http.ResponseWriter, _ *http.Request) {
	if !a.health.Started() {
		http.Error(w, "the engine has not been programmed yet", http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}
