package forwarding

import (
	"strings"
	"testing"
	"time"
)

// TestEastReport: a ratio above one is better whatever the figure, runs are
// compared and not their medians, and each target that is missed is named.
func TestEastReport(t *testing.T) {
	second := func(done float64, cpu time.Duration) work {
		usual, pause := lap{done, cpu, time.Second}, lap{done / 10, cpu, time.Second}
		return work{laps: []lap{usual, pause, usual}}
	}
	crossing := func(services int, ebpf float64) Crossing {
		c := Crossing{Services: services, Place: far, Load: "TCP connections"}
		for i := range 3 {
			pace := float64(1000 * (i + 1)) // the machine gets faster: ratios do not
			c.runs = append(c.runs, [routes]work{
				bare: second(pace, 50*time.Millisecond), direct: second(pace, 50*time.Millisecond), byKubeProxy: second(0.8*pace, 60*time.Millisecond),
				byNFTables: second(0.85*pace, 55*time.Millisecond), byEBPF: second(ebpf*pace, 50*time.Millisecond),
			})
		}
		return c
	}
	r := NewEastReport(&EastWest{}, []Crossing{crossing(1, 0.99), crossing(10000, 0.75)})
	if q := r.rows[0].ratio(byEBPF, byKubeProxy).median; q < 1.23 || q > 1.24 {
		t.Errorf("eBPF has %.3f of kube-proxy's rate", q)
	}
	if q := r.rows[1].ratio(byKubeProxy, byNFTables).median; q > 1 {
		t.Errorf("kube-proxy's cost is %.3f times better", q)
	}
	missed := r.Missed()
	for _, want := range []string{"10000 Services, another node, TCP connections/s: 0.750 (0.750-0.750) of pod itself", "0.938 (0.938-0.938) of kube-proxy", "level from 1 to 10000 Services, another node, TCP connections/s: 0.758"} {
		if !strings.Contains(missed, want) {
			t.Errorf("missed:\n  %s\nlacks %q", missed, want)
		}
	}
	if strings.Contains(missed, "1 Services, another node, TCP connections/s") {
		t.Errorf("missed:\n  %s", missed)
	}
}

func TestRatioReaches(t *testing.T) {
	for _, c := range []struct {
		r    ratio
		want string
	}{
		{ratio{0.98, 0.9, 1.1}, met},
		{ratio{0.96, 0.9, 0.98}, undecided},
		{ratio{0.96, 0.95, 0.965}, missed},
	} {
		if got := c.r.reaches(0.97); got != c.want {
			t.Errorf("%s: %s, want %s", c.r, got, c.want)
		}
	}
	for n, want := range map[int][2]int{1: {0, 0}, 3: {0, 2}, 25: {7, 17}, 100: {40, 59}} {
		if low, high := middle(n); low != want[0] || high != want[1] {
			t.Errorf("the middle of %d: %d and %d, want %v", n, low, high, want)
		}
	}
}
