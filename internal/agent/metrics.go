package agent

import (
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

type metrics struct {
	sync                 prometheus.Histogram
	failures             prometheus.Counter
	repairs              prometheus.Counter
	elements             *prometheus.CounterVec
	last                 prometheus.Gauge
	announced            prometheus.Gauge
	services             prometheus.Gauge
	endpoints            prometheus.Gauge
	sysctl               *prometheus.GaugeVec
	others               *prometheus.GaugeVec
	noLocal              *prometheus.GaugeVec
	latency              prometheus.Histogram
	changes              *prometheus.CounterVec
	takeovers            prometheus.Counter
	quarantinedEndpoints prometheus.Gauge
	guarded              prometheus.Gauge
	inSync               prometheus.Gauge
	queued               prometheus.Gauge
	saved                prometheus.Gauge
	refusedL2            *prometheus.GaugeVec
	refusedBGP           *prometheus.GaugeVec
	director             directorMetrics
	egress               egressMetrics

	counted endpointsByNode // the decision's loop alone
}

// endpointsByNode counts the endpoints of a Snapshot by their node.
type endpointsByNode struct {
	last *snapshot.Snapshot // nil before the first follow
	n    map[string]int
}

// follow makes s what is counted. It takes the work of what changed.
func (e *endpointsByNode) follow(s *snapshot.Snapshot, changes snapshot.Changes) {
	last := e.last
	if e.last = s; last == nil {
		e.n = map[string]int{}
		for _, svc := range s.Services {
			e.add(svc, 1)
		}
		return
	}
	for _, ref := range changes.From(last, s).Services {
		e.add(s.Service(ref), 1)
		e.add(last.Service(ref), -1)
	}
}

// add counts the endpoints of svc, which may be nil, n times.
func (e *endpointsByNode) add(svc *snapshot.Service, n int) {
	if svc == nil {
		return
	}
	for _, ep := range svc.Endpoints {
		if e.n[ep.Node] += n; e.n[ep.Node] == 0 {
			delete(e.n, ep.Node)
		}
	}
}

func newMetrics(reg prometheus.Registerer) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		sync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairlead_engine_sync_duration_seconds", Help: "Time from the moment when the agent takes a change up until the kernel holds it and the node announces it.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}),
		failures: counter("fairlead_engine_sync_failures_total", "Syncs that failed and left the kernel as it was."),
		repairs:  counter("fairlead_engine_repairs_total", "Times that another program had changed the engine's kernel state."),
		elements: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_engine_elements_total", Help: "Kernel set elements written, by operation (add, delete).",
		}, []string{"operation"}),
		last:      gauge("fairlead_engine_sync_last_timestamp_seconds", "When the kernel last held everything that the agent knew."),
		announced: gauge("fairlead_announced_addresses", "Addresses that this node announces by ARP or NDP; each counts once for each link."),
		services:  gauge("fairlead_engine_services", "Services that the engine serves."),
		endpoints: gauge("fairlead_engine_endpoints", "Endpoints of all ports of the Services that the engine serves."),
		sysctl: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_sysctl_wrong", Help: "1 for each kernel setting that is wrong and that the agent could not set, by name.",
		}, []string{"name"}),
		others: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_other_proxy", Help: "1 for each other Service proxy that left something on the node, with the certainty that it forwards (runs, unknown, left).",
		}, []string{"proxy", "certainty"}),
		noLocal: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_engine_no_local_endpoints", Help: "Services with a traffic policy Local that have endpoints, but none on this node, by policy (internal, external).",
		}, []string{"traffic_policy"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "fairlead_network_programming_duration_seconds",
			Help:    "Time from the change of a pod or Service, as the cluster noted it, to the kernel holding it. The clocks of two machines are compared.",
			Buckets: []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300},
		}),
	}
	m.changes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fairlead_ownership_changes_total", Help: "Addresses that this node gained or lost by election, by direction (taken, given).",
	}, []string{"direction"})
	m.quarantinedEndpoints = gauge("fairlead_quarantined_endpoints", "Endpoints that take no connection because their nodes are gone.")
	m.guarded = gauge("fairlead_members_guarded", "1 while more than half of the nodes vanished at once, so that nothing is quarantined.")
	m.takeovers = counter("fairlead_takeovers_total", "Addresses that this node took over from another node, by failover, drain or return. An address that no node had does not count.")
	m.inSync = gauge("fairlead_engine_in_sync", "1 while this node forwards as it should, by the engine or by the proxy that forwards instead.")
	m.queued = gauge("fairlead_engine_sync_queued_timestamp_seconds", "When the last change for the engine arrived.")
	m.saved = gauge("fairlead_snapshot_saved", "1 while the agent acts on the snapshot that it saved, because no API server has answered since it started.")
	m.refusedL2 = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "fairlead_l2_refused_addresses", Help: "Addresses that this node does not announce by ARP or NDP, by reason (NotOwner: another node does).",
	}, []string{"reason"})
	m.refusedBGP = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "fairlead_bgp_refused", Help: "What this node leaves out of BGP, by kind (peer, announcement, address) and reason.",
	}, []string{"kind", "reason"})
	for _, direction := range []string{"taken", "given"} {
		m.changes.WithLabelValues(direction)
	}
	for _, operation := range []string{"add", "delete"} {
		m.elements.WithLabelValues(operation)
	}
	if reg != nil {
		reg.MustRegister(m.changes, m.takeovers, m.quarantinedEndpoints, m.guarded, m.inSync, m.queued, m.saved, m.refusedL2, m.refusedBGP, conntrack{"/proc/sys"})
		reg.MustRegister(m.sync, m.failures, m.repairs, m.elements, m.last, m.announced, m.services, m.endpoints, m.sysctl, m.others, m.noLocal, m.latency, &m.director, &m.egress)
	}
	return m
}

func (m *metrics) synced(c proxy.Change, err error) {
	if err != nil {
		m.failures.Inc()
		return
	}
	if c.Repaired {
		m.repairs.Inc()
	}
	m.elements.WithLabelValues("add").Add(float64(c.Added))
	m.elements.WithLabelValues("delete").Add(float64(c.Deleted))
	m.last.SetToCurrentTime()
}

// programmed says that at now the kernel holds a Table with this Summary, and with it the
// changes that were made at triggers.
func (m *metrics) programmed(held proxy.Summary, triggers []time.Time, now time.Time) {
	for _, t := range triggers {
		m.latency.Observe(max(0, now.Sub(t).Seconds()))
	}
	m.noLocal.WithLabelValues("internal").Set(float64(held.NoLocalInternal))
	m.noLocal.WithLabelValues("external").Set(float64(held.NoLocalExternal))
}

// decided counts what a decision says. Only what changed is counted again: a
// cluster may have ten thousand addresses.
func (m *metrics) decided(in node.Inputs, was, now node.State) {
	m.quarantined(in)
	if diff.Same(was.Elected, now.Elected) && diff.Same(was.Refused, now.Refused) {
		return
	}
	m.moved(was, now)
	count := map[snapshot.Reason]int{}
	for _, r := range now.Refused {
		count[r.Reason]++
	}
	m.refusedL2.Reset()
	for reason, n := range count {
		m.refusedL2.WithLabelValues(string(reason)).Set(float64(n))
	}
}

// routed counts what a plan leaves out of BGP.
func (m *metrics) routed(plan bgp.Plan) {
	m.refusedBGP.Reset()
	for _, r := range plan.Refused {
		m.refusedBGP.WithLabelValues(r.Kind, string(r.Refusal.Reason)).Inc()
	}
	for _, s := range plan.RefusedVIPs {
		m.refusedBGP.WithLabelValues("address", string(s.Reason)).Inc()
	}
}

// reported shows what the NodeState says.
func (m *metrics) reported(st state) {
	m.announced.Set(float64(len(st.held)))
	m.services.Set(float64(st.summary.Services))
	m.endpoints.Set(float64(st.summary.Endpoints))
	m.inSync.Set(gaugeValue(st.InSync))
}

// moved counts the addresses that came and went between two plans, and those of
// them that another node had.
func (m *metrics) moved(was, now node.State) {
	for _, v := range now.Elected {
		i, refused := slices.BinarySearchFunc(was.Refused, v.Addr, func(o announcer.Refused, a netip.Addr) int { return o.Addr.Compare(a) })
		if refused && was.Refused[i].Reason == announcer.NotOwner {
			m.takeovers.Inc()
		}
	}
	m.changes.WithLabelValues("taken").Add(float64(countMissing(now, was)))
	m.changes.WithLabelValues("given").Add(float64(countMissing(was, now)))
}

// countMissing counts what in announces and out does not.
func countMissing(in, out node.State) (n int) {
	for _, v := range in.Elected {
		if _, has := slices.BinarySearchFunc(out.Elected, v.Addr, func(o announcer.VIP, a netip.Addr) int { return o.Addr.Compare(a) }); !has {
			n++
		}
	}
	return n
}

// quarantined counts the endpoints on nodes that are gone.
func (m *metrics) quarantined(in node.Inputs) {
	m.guarded.Set(gaugeValue(in.View.Guarded))
	m.counted.follow(in.Snapshot, in.Changes)
	n := 0
	for _, name := range in.View.Quarantined() {
		n += m.counted.n[name]
	}
	m.quarantinedEndpoints.Set(float64(n))
}
