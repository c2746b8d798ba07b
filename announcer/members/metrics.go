package members

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/announcer"
)

type metrics struct {
	elected   prometheus.Gauge
	members   *prometheus.GaugeVec
	detection prometheus.Histogram
	refused   *prometheus.CounterVec
	clashes   prometheus.Counter
}

// The reasons for which a message is refused.
const (
	refusedKey     = "key"     // encrypted with none of our keys, or not at all
	refusedGarbage = "garbage" // cannot be read
	refusedSize    = "size"    // too long
	refusedSource  = "source"  // from an address of no node
	refusedExcess  = "excess"  // a connection beside too many others
	refusedPlace   = "place"   // of a node that is elsewhere, or is not in the API
	refusedForged  = "forged"  // a report that its node did not sign
)

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		elected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairlead_member_candidates", Help: "Nodes that this node sees as healthy enough to be elected, itself included.",
		}),
		members: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_members", Help: "Nodes by this node's verdict, itself included.",
		}, []string{"verdict"}),
		detection: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairlead_member_detection_seconds", Help: "Time from a node's last sign of life to the verdict that it is gone.",
			Buckets: []float64{0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 5},
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_member_messages_refused_total", Help: "Messages between agents that this agent refused, by reason (key, garbage, size, source, excess, place, forged).",
		}, []string{"reason"}),
		clashes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_member_clashes_total", Help: "Messages of an agent that uses another agent's name.",
		}),
	}
	for _, r := range []string{refusedKey, refusedGarbage, refusedSize, refusedSource, refusedExcess, refusedPlace, refusedForged} {
		m.refused.WithLabelValues(r)
	}
	m.elected = registered(reg, m.elected)
	m.members, m.detection = registered(reg, m.members), registered(reg, m.detection)
	m.refused, m.clashes = registered(reg, m.refused), registered(reg, m.clashes)
	return m
}

// registered returns c, or what was registered in its place before: a process
// may have one Members after another.
func registered[T prometheus.Collector](reg prometheus.Registerer, c T) T {
	if reg == nil {
		return c
	}
	var before prometheus.AlreadyRegisteredError
	switch err := reg.Register(c); {
	case errors.As(err, &before):
		return before.ExistingCollector.(T)
	case err != nil:
		panic(err) // a mistake here, not a condition of this run
	}
	return c
}

func (m *metrics) viewed(v announcer.View) {
	count, elected := map[announcer.Verdict]int{}, 0
	for _, mem := range v.Members {
		count[mem.Verdict]++
		if mem.Candidate {
			elected++
		}
	}
	m.elected.Set(float64(elected))
	for _, verdict := range announcer.Verdicts {
		m.members.WithLabelValues(verdict.String()).Set(float64(count[verdict]))
	}
}
