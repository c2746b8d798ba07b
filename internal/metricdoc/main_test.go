package main

import (
	"os"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
)

const file = "../../docs/metrics.md"

// TestPage: docs/metrics.md tells of the metrics that the code has.
func TestPage(t *testing.T) {
	want, err := Page()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not current: make generate", file)
	}
}

// TestLint: names, types, units and help are as Prometheus wants them, and no
// label could have any number of values.
func TestLint(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	bounded := []string{
		"kind", "reason", "state", "verdict", "direction", "operation", "protocol", "traffic_policy", "ip_family", "path", "code", "verb", "resource",
		"version", "goversion", // of the build
		"name",         // of a sysctl
		"pool", "peer", // objects of the administrator
		"proxy", "certainty", // of the proxies that are known
		"hops", "result", // of a directed packet
		"way",         // of what leaves the cluster
		"vip", "node", // at most 4,096 and 1,024, and only those with a count
	}
	var families []*dto.MetricFamily
	for _, m := range slices.Concat(all.Agent, all.Controller, all.Both, all.ControlPlane) {
		families = append(families, family(m))
		for _, l := range m.Labels {
			if !slices.Contains(bounded, l) {
				t.Errorf("%s has the label %s: is it bounded?", m.Name, l)
			}
		}
	}
	if len(families) < 40 {
		t.Errorf("%d metrics alone", len(families))
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func family(m Metric) *dto.MetricFamily {
	types := map[string]dto.MetricType{"gauge": dto.MetricType_GAUGE, "counter": dto.MetricType_COUNTER, "histogram": dto.MetricType_HISTOGRAM}
	sample := &dto.Metric{}
	for _, l := range m.Labels {
		sample.Label = append(sample.Label, &dto.LabelPair{Name: &l})
	}
	kind := types[m.Type]
	return &dto.MetricFamily{Name: &m.Name, Help: &m.Help, Type: &kind, Metric: []*dto.Metric{sample}}
}
