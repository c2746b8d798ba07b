package l2

import "github.com/prometheus/client_golang/prometheus"

// Metrics count what is said and heard on the links.
type Metrics struct {
	sent      *prometheus.CounterVec
	conflicts prometheus.Counter
	defences  prometheus.Counter
	frames    *prometheus.CounterVec
	dropped   prometheus.Counter
	disputed  prometheus.Gauge
}

// NewMetrics makes Metrics and registers them; with a nil reg nobody sees them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_l2_frames_sent_total", Help: "Frames sent on links, by protocol (arp, ndp) and kind (announcement, probe).",
		}, []string{"protocol", "kind"}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_l2_conflicts_total", Help: "Times that the node found a foreign host that has or claims an address of ours.",
		}),
		defences: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_l2_defences_total", Help: "Times that an announced address was announced again because a foreign host claimed it.",
		}),
		frames: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_l2_frames_received_total", Help: "Frames that passed the kernel's filter, by kind (claim: about a watched address; late: from before this process woke up; other).",
		}, []string{"kind"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_l2_frames_dropped_total", Help: "Frames that passed the kernel's filter and were lost, because the process did not read them in time.",
		}),
		disputed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairlead_l2_conflicting_addresses", Help: "Addresses of this node that a foreign host has or claims now.",
		}),
	}
	for _, kind := range []string{"announcement", "probe"} {
		m.sent.WithLabelValues("arp", kind)
		m.sent.WithLabelValues("ndp", kind)
	}
	for _, kind := range []string{"claim", "other", "late"} {
		m.frames.WithLabelValues(kind)
	}
	if reg != nil {
		reg.MustRegister(m.sent, m.conflicts, m.defences, m.frames, m.dropped, m.disputed)
	}
	return m
}
