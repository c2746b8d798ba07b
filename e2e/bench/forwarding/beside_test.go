package forwarding

import (
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

// The report has a ratio where both were measured, counts where they say something,
// and misses its target when a Sync failed.
func TestBesideReport(t *testing.T) {
	const every = 5 * time.Millisecond
	l := &report.Lines{}
	for proxy, took := range map[string]time.Duration{"kube-proxy": 600 * time.Millisecond, "fairlead": 20 * time.Millisecond} {
		for range 3 {
			l.Add(besideOf(every, proxy), 1, report.Time(took, "p50-sec"), report.Time(took, "max-sec"), report.Time(took, "cpu-sec/op"),
				report.Time(took, "stale-sec"), report.Of(1, "failed-syncs"), report.Of(2, "out-of-sync"), report.Of(0, "failed"))
		}
	}
	b := Beside{Every: []time.Duration{every}, Turns: 3, Churn: Churn{Services: 100, Rate: 100, Length: time.Second}}
	text := NewBesideReport(b, l, time.Minute).Markdown(time.Unix(0, 0))
	for _, want := range []string{
		"| every 5ms | endpoint change, p50 | 600.0ms", "| 30 (30-30) |", "| every 5ms | failed Syncs | 3 | 3 |",
		"| not in sync, of two looks a second |  | 6 |", "| every 5ms: no Syncs of fairlead fail | 3 | missed |", "| every 5ms: no requests of fairlead fail | 0 | met |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
