package controller

import (
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/announcer/observe"
	"github.com/fairlead/fairlead/internal/record"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// TestMetrics fills every metric once and holds their names and help texts to
// Prometheus' conventions.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := newMetrics(reg)
	record.CountWrites(reg)("update", "services/status")
	s := &snapshot.Snapshot{
		Services: []*snapshot.Service{{Ref: web, Type: snapshot.LoadBalancer, ClusterIPs: []netip.Addr{ip1}}},
		Pools:    []*snapshot.Pool{{Name: "lan", AutoAssign: true, Ranges: []netipx.IPRange{netipx.IPRangeFrom(ip1, ip1.Next())}}},
	}
	record.NewMetrics(reg).Decided(allocator.Decide(s, allocator.Options{DefaultClass: true}), observe.Observe(s, time.Now()), time.Second)
	m.countEvent(event{corev1.EventTypeWarning, string(allocator.PoolExhausted), "no free address"})
	m.countEvent(event{corev1.EventTypeNormal, "EnsuredLoadBalancer", "well"})
	made := &corev1.Service{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(time.Now().Add(-4 * time.Second))}}
	served := made.DeepCopy()
	served.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	m.observeStatus(made, served)
	m.observeStatus(served, served)

	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if n := testutil.ToFloat64(m.refusals.WithLabelValues("PoolExhausted")); n != 1 || testutil.CollectAndCount(m.refusals) != 1 {
		t.Errorf("%v refusals for an exhausted pool, %d reasons", n, testutil.CollectAndCount(m.refusals))
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := map[string][]*dto.Metric{}
	for _, f := range families {
		series[f.GetName()] = f.GetMetric()
	}
	if n := len(series["fairlead_pool_addresses"]); n != 3 {
		t.Errorf("%d series for a pool of one family, want total, assigned and free", n)
	}
	took := series["fairlead_controller_assignment_duration_seconds"]
	if len(took) != 1 || took[0].GetHistogram().GetSampleCount() != 1 || took[0].GetHistogram().GetSampleSum() < 4 || took[0].GetHistogram().GetSampleSum() > 60 {
		t.Errorf("one Service got an address after 4 s; noted: %v", took)
	}
}
