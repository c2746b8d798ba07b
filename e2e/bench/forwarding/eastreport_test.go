package forwarding

import (
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

// crossing is one of connections in which eBPF has so much of the pod itself, on a
// machine that gets faster.
func crossing(services int, at place, ebpf float64) Crossing {
	second := func(done float64, cpu time.Duration) work {
		usual, pause := lap{done, cpu, time.Second}, lap{done / 10, cpu, time.Second}
		return work{laps: []lap{usual, pause, usual}}
	}
	c := Crossing{Services: services, Place: at, Load: "TCP connections"}
	for i := range 7 {
		pace := float64(1000 * (i + 1))
		c.runs = append(c.runs, [routes]work{
			bare: second(pace, 50*time.Millisecond), direct: second(pace, 50*time.Millisecond), byKubeProxy: second(0.8*pace, 60*time.Millisecond),
			byNFTables: second(0.85*pace, 55*time.Millisecond), byEBPF: second(ebpf*pace, 50*time.Millisecond),
		})
	}
	return c
}

// TestEastReport: a ratio above one is better whatever the figure, runs are
// compared and not their medians, and each target that is missed is named.
func TestEastReport(t *testing.T) {
	l := EastLines([]Crossing{crossing(1, far, 0.99), crossing(10000, far, 0.75)})
	if got, want := measured(t, l)[:58], "BenchmarkConnect/services=1/pod=far/route=bare 1 1000 conn"; got != want {
		t.Errorf("lines begin with %q, want %q", got, want)
	}
	r := NewEastReport(&EastWest{Bench: Bench{Sizes: []int{1, 10000}}}, l, 0)
	row := r.Table.Rows[8] // after the eight of the same node
	want := "1|another node|TCP connections/s|4.000k/s ± 75%|3.200k/s ± 75%|4.000k/s ± 75%|3.400k/s ± 75%|3.960k/s ± 75%|" +
		"0.85 (0.85-0.85)|0.99 (0.99-0.99)|0.99 (0.99-0.99)|1.238 (1.238-1.238)|p=0.535 n=7+7|met"
	if got := strings.Join(row, "|"); got != want {
		t.Errorf("row\n%s\nwant\n%s", got, want)
	}
	if got := r.Table.Rows[9][8]; got[:4] != "0.77" {
		t.Errorf("nftables' processor time is %s times better than the pod's", got)
	}
	missed := r.Missed()
	for _, want := range []string{
		"10000 Services, another node, TCP connections/s: at least 0.97 of pod itself: 0.75 (0.75-0.75)",
		"10000 Services, another node, TCP connections/s: above kube-proxy: 0.9375 (0.9375-0.9375)",
		"level from 1 to 10000 Services, another node, TCP connections/s: 0.7576 (0.7576-0.7576)",
	} {
		if !strings.Contains(missed, want) {
			t.Errorf("missed:\n  %s\nlacks %q", missed, want)
		}
	}
	if strings.Contains(missed, " 1 Services, another node, TCP connections/s") {
		t.Errorf("missed:\n  %s", missed)
	}
}

// TestEastUndecided: a row whose interval reaches what its median does not fails
// nothing.
func TestEastUndecided(t *testing.T) {
	c := crossing(1, near, 0.96)
	c.runs[0][byEBPF], c.runs[1][byEBPF] = c.runs[0][direct], c.runs[1][direct]
	row := eastRow{EastLines([]Crossing{c}), 1, near, eastKinds[0], eastKinds[0].figures[0]}
	if got := report.Worst(row.targets()); got != report.Undecided {
		t.Errorf("%+v: %s, want %s", row.targets(), got, report.Undecided)
	}
}
