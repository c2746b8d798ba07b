// Package server serves a process's probes and metrics over HTTP.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Listen opens address now, so that a taken port is an error at the start, and
// returns what serves mux there until ctx ends. An empty address serves nothing.
func Listen(address string, mux http.Handler) (serve func(context.Context) error, err error) {
	if address == "" {
		return func(context.Context) error { return nil }, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%w (is kube-proxy or another fairlead running here?)", err)
	}
	srv, l := HTTP(mux), Bound(l)
	return func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
		defer stop()
		if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", address, err)
		}
		return nil
	}, nil
}

// Registry returns a registry that has the metrics of every process of ours:
// the version, Go's and the process's own.
func Registry(version string) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(Collectors(version)...)
	return reg
}

// Collectors are what a Registry has from the start.
func Collectors(version string) []prometheus.Collector {
	return []prometheus.Collector{collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(version)}
}

func buildInfo(version string) prometheus.Gauge {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "fairlead_build_info", Help: "1, with the version of the running binary and of the Go that built it.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	info.Set(1)
	return info
}

// Metrics is a mux with /metrics of reg.
func Metrics(reg prometheus.Gatherer) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	return mux
}
