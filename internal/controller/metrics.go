package controller

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/snapshot"
)

type metrics struct {
	leading  prometheus.Gauge
	decide   prometheus.Histogram
	services *prometheus.GaugeVec
	pools    *prometheus.GaugeVec
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
	}
	if reg != nil {
		reg.MustRegister(m.leading, m.decide, m.services, m.pools)
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
