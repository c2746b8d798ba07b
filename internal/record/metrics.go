package record

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Metrics tell of the last decision.
type Metrics struct {
	decide   prometheus.Histogram
	services *prometheus.GaugeVec
	pools    *prometheus.GaugeVec
}

// NewMetrics makes Metrics and registers them; with a nil reg nobody sees them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
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
		reg.MustRegister(m.decide, m.services, m.pools)
	}
	return m
}

// Decide decides, and takes note of how long it took and what came out.
func (m *Metrics) Decide(s *snapshot.Snapshot, opt allocator.Options) *allocator.Plan {
	start := time.Now()
	plan := allocator.Decide(s, opt)
	m.decide.Observe(time.Since(start).Seconds())
	m.note(plan)
	return plan
}

func (m *Metrics) note(p *allocator.Plan) {
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

func (m *Metrics) count(pool string, family snapshot.Family, c snapshot.PoolCount) {
	if c.Total == 0 {
		return
	}
	m.pools.WithLabelValues(pool, family.String(), "total").Set(float64(c.Total))
	m.pools.WithLabelValues(pool, family.String(), "assigned").Set(float64(c.Assigned))
	m.pools.WithLabelValues(pool, family.String(), "free").Set(float64(c.Free))
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
