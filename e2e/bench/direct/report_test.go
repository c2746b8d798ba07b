package direct

import (
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

// The report compares runs that followed each other, has no column's figure that was not
// measured, and misses a target that was missed.
func TestReport(t *testing.T) {
	l := &report.Lines{}
	for range 6 {
		measured{connections: 1000, took: time.Second, hidden: 1000, size: 1e9, sent: time.Second, owner: 2e9, cpu: 2 * time.Second}.add(l, line(Masquerade))
		measured{connections: 1300, took: time.Second, size: 1e9, sent: time.Second, owner: 4e7, cpu: 1900 * time.Millisecond}.add(l, line(Direct))
		measured{connections: 900, took: time.Second, size: 1e9, sent: 2 * time.Second, owner: 4e7, cpu: time.Second}.add(l, farLine(Direct))
	}
	text := NewReport(Bench{Runs: 6, Downloads: 4, Size: 25e7, Connections: time.Second}, l, time.Minute).Markdown(time.Unix(0, 0))
	for _, want := range []string{
		"| connections/s, each with one request |  | 1.000k/s", "| 1.3 (1.3-1.3) |", "| 50 (50-50) | met |",
		"| CPU for a GB: at most 0.8 of Masquerade's (1.25 times better) | 1.053 (1.053-1.053) | missed |",
		"| across subnets: bytes downloaded a second |  |  | 476.8MiB/s",
		"| connections whose client the pod sees as a node |  | 6000 | 0 |", "| no connection fails | 0 failed | met |",
		"    kube-proxy |\n    Masquerade |                              6\n    Direct     |                                       6\n                0/s                 667/s               1333/s              2000/s\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if text := NewReport(Bench{}, &report.Lines{}, 0).Missed(); !strings.Contains(text, "connections/s") {
		t.Errorf("nothing was measured, and missed is %q", text)
	}
}

func TestBusyTime(t *testing.T) {
	got, err := busyIn("cpu  100 20 30 4000 500 6 7 8 90 10\ncpu0 1 2 3\n")
	if want := 143 * tick; err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	for _, bad := range []string{"", "cpu0 1 2 3 4 5 6 7 8", "cpu 1 2", "cpu a b c d e f g"} {
		if d, err := busyIn(bad); err == nil {
			t.Errorf("%q is %s", bad, d)
		}
	}
}
