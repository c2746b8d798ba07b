package failover

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

func recorded() (out []Run) {
	for _, gap := range []int{140, 139, 158, 141, 139, 270, 137} {
		out = append(out, Run{Scenario: "power-loss", Result: Result{
			Requests: 1400, Failed: 70, Cut: 1, Gap: time.Duration(gap) * time.Millisecond, Clean: time.Duration(gap+10) * time.Millisecond,
		}})
	}
	for _, notes := range []string{"all replaced after 9 s", "all replaced after 8 s", "all replaced after 9 s"} {
		out = append(out, Run{Scenario: "upgrade", Notes: notes, Result: Result{Requests: 3300, Gap: 40 * time.Millisecond}})
	}
	return out
}

// TestSummaries: a line of each scenario that ran, with every figure that runs are
// compared by.
func TestSummaries(t *testing.T) {
	var got []string
	for _, s := range Summarise(recorded()) {
		got = append(got, s.String())
	}
	want := []string{
		"bench-failover: scenario=power-loss runs=7 gap_p50_s=0.14 gap_max_s=0.27 failed=490 cut=7 requests=9800 clean_max_s=0.28",
		"bench-failover: scenario=upgrade runs=3 gap_p50_s=0.04 gap_max_s=0.04 failed=0 cut=0 requests=9900 clean_max_s=0.00",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestMarkdown(t *testing.T) {
	const want = `2026-11-22: gaps are medians with their 95 % confidence intervals; 2 cores, Linux 6.18.44; 31m0s in all.

| fault | runs | longest gap, median | longest gap, worst | failed requests | clean for good, at the latest |
| --- | --- | --- | --- | --- | --- |
| node loses power | 7 | 140.0ms ± 93% | 270.0ms | 490 of 9800, 7 cut | 280.0ms |
| agents replaced (rolling update) | 3 | 40.00ms ± 0% | 40.00ms | 0 of 9900 | 0.000s |

The longest gap of each run; a digit is how many runs had it:

    node loses power                 |                           32  1                      1
    agents replaced (rolling update) |        3
                                      0.00 s              0.10 s              0.20 s              0.30 s

Targets: 4 met, 0 undecided, 0 missed.

- agents replaced (rolling update): all replaced after 9 s.
- agents replaced (rolling update): all replaced after 8 s.
`
	r := NewReport(Summarise(recorded()), 31*time.Minute)
	got := strings.ReplaceAll(r.Markdown(time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)), report.Machine(), "2 cores, Linux 6.18.44")
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// TestMissed: the worst of the runs counts, not their median.
func TestMissed(t *testing.T) {
	for _, c := range []struct {
		name string
		run  Run
		want string
	}{
		{"a long gap", Run{Scenario: "power-loss", Result: Result{Gap: 310 * time.Millisecond}}, "node loses power: the longest gap within 0.30 s: 0.31 s"},
		{"late", Run{Scenario: "power-loss", Result: Result{Clean: 1600 * time.Millisecond}}, "node loses power: clean for good within 1.50 s: 1.60 s"},
		{"one failed", Run{Scenario: "upgrade", Result: Result{Failed: 1}}, "agents replaced (rolling update): no request fails: 1"},
		{"frozen", Run{Scenario: "frozen", Result: Result{Gap: 1100 * time.Millisecond, Failed: 9}}, "agent frozen: the longest gap within 1.00 s: 1.10 s"},
		{"within all", Run{Scenario: "frozen", Result: Result{Gap: time.Second, Failed: 9, Clean: time.Minute}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := NewReport(Summarise(append(recorded(), c.run)), 0).Missed(); got != c.want {
				t.Errorf("missed %q, want %q", got, c.want)
			}
		})
	}
}

// TestPlot: the columns end behind the longest gap, and more than nine runs in one are a +.
func TestPlot(t *testing.T) {
	s := Summary{Scenario: Scenario{Title: "x"}, Worst: 600 * time.Millisecond}
	for i := range 12 {
		s.Runs = append(s.Runs, Run{Result: Result{Gap: 100 * time.Millisecond * time.Duration(1+i/11*5)}})
	}
	const want = "x |          +                                                 1\n" +
		"   0.00 s              0.20 s              0.40 s              0.60 s\n"
	if got := plot([]Summary{s}); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// TestLines: each run is a line, with the same figures.
func TestLines(t *testing.T) {
	l := Lines(recorded())
	for unit, want := range map[string][]float64{"gap-sec": {0.04, 0.04, 0.04}, "clean-sec": {0, 0, 0}, "failed": {0, 0, 0}, "cut": {0, 0, 0}} {
		if got := l.Values("Failover/scenario=upgrade", unit); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", unit, got, want)
		}
	}
}
