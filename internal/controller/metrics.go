package controller

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/snapshot"
)

type metrics struct {
	leading  prometheus.Gauge
	decide   prometheus.Histogram
	services *prometheus.GaugeVec
	pools    *prometheus.GaugeVec
	refusals *prometheus.CounterVec
	waited   prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		leading: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairlead_controller_leading", Help: "1 while this replica holds the Lease and acts.",
		}),
		decide: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairlead_controller_decide_duration_seconds", Help: "Time to decide which Service holds which address.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
		}),
		services: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_controller_services", Help: "Services of type LoadBalancer that are ours, by reason: Assigned, or why they have no address or not the one they ask for.",
		}, []string{"reason"}),
		pools: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_pool_addresses", Help: "Addresses of a pool by family and state (total, assigned, free).",
		}, []string{"pool", "ip_family", "state"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_controller_refusals_total", Help: "Warnings told to the owners of Services, by reason; one that lasts counts once.",
		}, []string{"reason"}),
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "fairlead_controller_assignment_duration_seconds",
			Help:    "Time from the creation of a Service, which Kubernetes notes in whole seconds, to its first address in the status.",
			Buckets: []float64{1, 2, 3, 5, 10, 15, 30, 60, 300, 3600},
		}),
	}
	if reg != nil {
		reg.MustRegister(m.leading, m.decide, m.services, m.pools, m.refusals, m.waited)
	}
	return m
}

func (m *metrics) plan(p *allocator.Plan) {
	m.services.Reset()
	for _, o := range p.Services {
		reason := "Assigned"
		if o.Refusal != nil {
			reason = string(o.Refusal.Reason)
		}
		m.services.WithLabelValues(reason).Inc()
	}
	m.pools.Reset()
	for _, o := range p.Pools {
		m.count(o.Name, snapshot.IPv4, o.Status.IPv4)
		m.count(o.Name, snapshot.IPv6, o.Status.IPv6)
	}
}

func (m *metrics) count(pool string, family snapshot.Family, c snapshot.PoolCount) {
	if c.Total == 0 {
		return
	}
	m.pools.WithLabelValues(pool, family.String(), "total").Set(float64(c.Total))
	m.pools.WithLabelValues(pool, family.String(), "assigned").Set(float64(c.Assigned))
	m.pools.WithLabelValues(pool, family.String(), "free").Set(float64(c.Free))
}

// written takes note of a status that was written.
func (m *metrics) written(old, now *corev1.Service) {
	if len(old.Status.LoadBalancer.Ingress) == 0 && len(now.Status.LoadBalancer.Ingress) > 0 {
		m.waited.Observe(time.Since(now.CreationTimestamp.Time).Seconds())
	}
}

// told takes note of an Event. Only Warnings have the allocator's reasons.
func (m *metrics) told(e news) {
	if e.kind == corev1.EventTypeWarning {
		m.refusals.WithLabelValues(e.reason).Inc()
	}
}

// CountWrites registers the counter of API writes and returns what adds to it:
// see kube.Access.
func CountWrites(reg prometheus.Registerer) func(verb, resource string) {
	writes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fairlead_controller_api_writes_total", Help: "Writes that the API server answered, by verb and resource.",
	}, []string{"verb", "resource"})
	reg.MustRegister(writes)
	return func(verb, resource string) { writes.WithLabelValues(verb, resource).Inc() }
}
