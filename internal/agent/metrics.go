package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/proxy"
)

type metrics struct {
	sync      prometheus.Histogram
	failures  prometheus.Counter
	repairs   prometheus.Counter
	elements  *prometheus.CounterVec
	last      prometheus.Gauge
	announced prometheus.Gauge
	services  prometheus.Gauge
	endpoints prometheus.Gauge
	sysctl    *prometheus.GaugeVec
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
			Name: "fairlead_engine_sync_duration_seconds", Help: "Time from a change being taken up to the kernel holding it and the node announcing it.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}),
		failures: counter("fairlead_engine_sync_failures_total", "Syncs that left the kernel as it was."),
		repairs:  counter("fairlead_engine_repairs_total", "Times that somebody else had changed the engine's kernel state."),
		elements: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_engine_elements_total", Help: "Kernel set elements written, by operation (add, delete).",
		}, []string{"operation"}),
		last:      gauge("fairlead_engine_sync_last_timestamp_seconds", "When the kernel last held everything that was known."),
		announced: gauge("fairlead_announced_addresses", "Addresses that this node announces by ARP or NDP, once a link."),
		services:  gauge("fairlead_engine_services", "Services that the engine serves."),
		endpoints: gauge("fairlead_engine_endpoints", "Endpoints of all ports of those Services."),
		sysctl: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_sysctl_wrong", Help: "1 for each kernel setting that is not as it is needed and could not be set, by name.",
		}, []string{"name"}),
	}
	if reg != nil {
		reg.MustRegister(m.sync, m.failures, m.repairs, m.elements, m.last, m.announced, m.services, m.endpoints, m.sysctl)
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

func (m *metrics) took(d time.Duration, now state) {
	m.sync.Observe(d.Seconds())
	m.announced.Set(float64(len(now.held)))
	m.services.Set(float64(now.services))
	m.endpoints.Set(float64(now.endpoints))
}
