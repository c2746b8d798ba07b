package stories

import (
	"testing"

	"github.com/fairlead/fairlead/e2e/demo"
)

// A Service of type LoadBalancer gets an address of each family, one node
// announces each, and every way to them reaches all its pods without a failure.
func TestEveryPathReachesEveryPod(t *testing.T) {
	l := cluster(t)
	s, err := demo.Deploy(t.Context(), l, l.Root())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range demo.Paths(l, s) {
		t.Run(p.Name, func(t *testing.T) {
			report, err := p.Probe(t.Context(), l)
			if err != nil {
				t.Fatal(err)
			}
			if err := (demo.Row{Path: p, Report: report}).Objection(); err != nil {
				t.Error(err)
			}
			t.Logf("p50 %.2f ms, p99 %.2f ms, clients seen: %v", report.P50, report.P99, report.Clients)
		})
	}
	for _, ip := range s.ExternalIPs {
		a, err := demo.FindAnnouncer(t.Context(), l, ip)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s is announced by %s (%s)", ip, a.Node, a.MAC)
	}
}
