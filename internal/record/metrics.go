package record

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/announcer/observe"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Metrics tell of the last decision and of what was observed with it.
type Metrics struct {
	leading   prometheus.Gauge
	decide    prometheus.Histogram
	services  *prometheus.GaugeVec
	pools     *prometheus.GaugeVec
	agreed    *prometheus.GaugeVec
	addresses *prometheus.GaugeVec
	refused   *prometheus.GaugeVec
}

// NewMetrics makes Metrics and registers them; with a nil reg nobody sees them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		leading: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairlead_controller_leading", Help: "1 while this replica holds the Lease and acts.",
		}),
		decide: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairlead_controller_decide_duration_seconds", Help: "Time to decide which Service holds which address.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
		}),
		services: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_controller_services", Help: "Services of type LoadBalancer that fairlead serves, by reason: Assigned, or why they do not have the address that they ask for.",
		}, []string{"reason"}),
		pools: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_pool_addresses", Help: "Addresses of a pool by family and state (total, assigned, free).",
		}, []string{"pool", "ip_family", "state"}),
		agreed: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_pool_prefix_agreed", Help: "1 while more than half of the nodes see the prefix that a pool with fromPrefix gives addresses of, and 0 otherwise.",
		}, []string{"pool"}),
		addresses: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_controller_addresses", Help: "Addresses that Services hold, by their state on the network (" + standings() + ").",
		}, []string{"state"}),
		refused: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_controller_refused_objects", Help: "Objects that have no effect because their spec cannot be carried out, by kind (AddressPool, BGPPeer) and the reason of their condition.",
		}, []string{"kind", "reason"}),
	}
	if reg != nil {
		reg.MustRegister(m.leading, m.decide, m.services, m.pools, m.agreed, m.addresses, m.refused)
	}
	return m
}

// Lead notes whether this replica leads. When it stops leading, its last decision is
// no longer reported.
func (m *Metrics) Lead(leads bool) {
	if leads {
		m.leading.Set(1)
		return
	}
	m.leading.Set(0)
	for _, v := range []*prometheus.GaugeVec{m.services, m.pools, m.agreed, m.addresses, m.refused} {
		v.Reset()
	}
}

// Decided notes what was decided and observed of s, and how long the decision took.
func (m *Metrics) Decided(plan *allocator.Plan, seen observe.Observed, took time.Duration) {
	m.decide.Observe(took.Seconds())
	m.note(plan)
	for _, st := range observe.Standings {
		m.addresses.WithLabelValues(string(st)).Set(float64(seen.Standings[st]))
	}
	m.refuse(plan, seen)
}

// refuse counts the objects that have no effect. A pool that is disabled is as it
// was meant to be.
func (m *Metrics) refuse(p *allocator.Plan, seen observe.Observed) {
	m.refused.Reset()
	for _, o := range p.Pools {
		if o.Ready.Status == "False" && o.Ready.Reason != string(allocator.PoolDisabled) {
			m.refused.WithLabelValues("AddressPool", o.Ready.Reason).Inc()
		}
	}
	for _, ready := range seen.Peers {
		if ready.Reason == observe.PeerRefused {
			m.refused.WithLabelValues("BGPPeer", ready.Reason).Inc()
		}
	}
}

// standings lists the values of a label.
func standings() string {
	names := make([]string, len(observe.Standings))
	for i, st := range observe.Standings {
		names[i] = string(st)
	}
	return strings.Join(names, ", ")
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
	m.agreed.Reset()
	for _, o := range p.Pools {
		if o.Prefix.Reason != "" {
			m.agreed.WithLabelValues(o.Name).Set(map[string]float64{"True": 1}[o.Prefix.Status])
		}
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
