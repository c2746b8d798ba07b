package agent

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// spec 92: Services without an endpoint here are counted by policy, if they have
// one elsewhere.
func TestNoLocalEndpoints(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := newMetrics(reg)
	front := func(kind proxy.Kind, name string, empty proxy.Verdict) *proxy.Frontend {
		return &proxy.Frontend{Key: proxy.Key{Kind: kind, Addr: netip.MustParseAddr("192.0.2.1")}, Service: snapshot.Ref{Name: name}, Empty: empty}
	}
	m.programmed(&proxy.Table{Frontends: []*proxy.Frontend{
		front(proxy.ClusterIP, "a", proxy.Drop), front(proxy.ClusterIP, "b", proxy.Reject), front(proxy.VIP, "c", proxy.Drop),
		front(proxy.NodePort, "c", proxy.Drop), front(proxy.VIP, "d", proxy.Drop), front(proxy.VIP, "e", proxy.Forward),
	}}, time.Now())
	want := `
# HELP fairlead_engine_no_local_endpoints Services with a traffic policy Local that have endpoints, but none on this node, by policy (internal, external).
# TYPE fairlead_engine_no_local_endpoints gauge
fairlead_engine_no_local_endpoints{traffic_policy="external"} 2
fairlead_engine_no_local_endpoints{traffic_policy="internal"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "fairlead_engine_no_local_endpoints"); err != nil {
		t.Error(err)
	}
}

// A change is measured once, when the kernel holds it; changes from before the
// agent's start are not.
func TestLatency(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := newMetrics(reg)
	start := time.Unix(1000, 0)
	m.triggered([]time.Time{start.Add(-time.Second), start.Add(time.Second), start.Add(2 * time.Second)}, start)
	for range 2 {
		m.programmed(&proxy.Table{}, start.Add(3*time.Second))
	}
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() != "fairlead_network_programming_duration_seconds" {
			continue
		}
		if h := f.Metric[0].Histogram; h.GetSampleCount() != 2 || h.GetSampleSum() != 3 {
			t.Errorf("%d samples, sum %v; want 2 and 3", h.GetSampleCount(), h.GetSampleSum())
		}
	}
}
