package controller

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
)

type metrics struct {
	refusals *prometheus.CounterVec
	waited   prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_controller_refusals_total", Help: "Warnings to the owners of Services, by reason. A warning that lasts counts once.",
		}, []string{"reason"}),
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "fairlead_controller_assignment_duration_seconds",
			Help:    "Time from the creation of a Service, which Kubernetes notes in whole seconds, to its first address in the status.",
			Buckets: []float64{1, 2, 3, 5, 10, 15, 30, 60, 300, 3600},
		}),
	}
	if reg != nil {
		reg.MustRegister(m.refusals, m.waited)
	}
	return m
}

// observeStatus takes note of a status that was written.
func (m *metrics) observeStatus(old, now *corev1.Service) {
	if len(old.Status.LoadBalancer.Ingress) == 0 && len(now.Status.LoadBalancer.Ingress) > 0 {
		m.waited.Observe(time.Since(now.CreationTimestamp.Time).Seconds())
	}
}

// countEvent takes note of an Event. Only Warnings have the allocator's reasons.
func (m *metrics) countEvent(e event) {
	if e.kind == corev1.EventTypeWarning {
		m.refusals.WithLabelValues(e.reason).Inc()
	}
}
