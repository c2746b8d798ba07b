package agent

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/internal/egress"
	"github.com/fairlead/fairlead/internal/egress/kernel"
)

// egressMetrics are what this node does with connections of pods that leave the cluster
// with an address of a Service. The kernel's counters are read when somebody asks for the
// metrics.
type egressMetrics struct {
	read atomic.Pointer[leaving]
}

// Follow has the metrics read l.
func (m *egressMetrics) Follow(l *leaving) { m.read.Store(l) }

var (
	egressPods = prometheus.NewDesc("fairlead_egress_pods", "Addresses of pods whose connections leave the cluster with an address of a Service, by what this node does: "+
		"own (it gives them the address), via (it sends them to the node that does), held (it drops them).", []string{"way"}, nil)
	egressConnections = prometheus.NewDesc("fairlead_egress_connections_total", "Connections of pods that leave the cluster with an address of a Service, by what this node did (own, via).", []string{"way"}, nil)
	egressHeld        = prometheus.NewDesc("fairlead_egress_held_packets_total", "Packets of pods that should leave with an address of a Service and were dropped, because no node announces that address.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m *egressMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{egressPods, egressConnections, egressHeld} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m *egressMetrics) Collect(to chan<- prometheus.Metric) {
	var pods [3]int
	var counts kernel.Counts
	if l := m.read.Load(); l != nil && l.egress != nil {
		for _, p := range l.State().Pods {
			pods[p.Way]++
		}
		// Without an answer of the kernel they are what they are at a start.
		counts, _ = l.egress.Counts()
	}
	for way, n := range pods {
		to <- prometheus.MustNewConstMetric(egressPods, prometheus.GaugeValue, float64(n), egress.Way(way).String())
	}
	to <- prometheus.MustNewConstMetric(egressConnections, prometheus.CounterValue, float64(counts.Own), egress.Own.String())
	to <- prometheus.MustNewConstMetric(egressConnections, prometheus.CounterValue, float64(counts.Via), egress.Via.String())
	to <- prometheus.MustNewConstMetric(egressHeld, prometheus.CounterValue, float64(counts.Held))
}
