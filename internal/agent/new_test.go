package agent

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/server"
)

// An agent of every part can be made: no two parts want the same metric.
func TestNew(t *testing.T) {
	clients, err := kube.FromConfig(&rest.Config{Host: "https://198.51.100.1"})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(server.Collectors("v1.2.3")...)
	if _, err := New(Config{Node: "a", Clients: clients, Metrics: reg, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
}
