package report

import (
	"testing"
	"time"
)

func sampleReport() Report {
	return Report{
		Name: "bench-x", How: "two runs",
		Table: Table{Columns: []string{"figure", "a"}, Rows: [][]string{{"load", "28.30ms ± 4%"}, {"memory", "1.000MiB"}}},
		Targets: []Target{
			{"load below 1 s", "28.30ms", Met}, {"load below 20 ms", "28.30ms", Missed}, {"memory", "1.000MiB", Undecided},
		},
		Notes: []string{"one", "two"},
	}
}

func TestText(t *testing.T) {
	const want = `bench-x: two runs
figure  a
load    28.30ms ± 4%
memory  1.000MiB

Targets: 1 met, 1 undecided, 1 missed.

target            measured  verdict
load below 1 s    28.30ms   met
load below 20 ms  28.30ms   missed
memory            1.000MiB  undecided

one.
two.
`
	if got := sampleReport().Text(); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestMarkdown(t *testing.T) {
	const want = `2026-11-22: two runs.

| figure | a |
| --- | --- |
| load | 28.30ms ± 4% |
| memory | 1.000MiB |

Targets: 1 met, 1 undecided, 1 missed.

| target | measured | verdict |
| --- | --- | --- |
| load below 20 ms | 28.30ms | missed |
| memory | 1.000MiB | undecided |

- one.
- two.
`
	r := sampleReport()
	r.Unmet = true
	if got := r.Markdown(time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC)); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// TestMissed: what is undecided does not fail a run.
func TestMissed(t *testing.T) {
	r := sampleReport()
	if got, want := r.Missed(), "load below 20 ms: 28.30ms"; got != want {
		t.Errorf("missed %q, want %q", got, want)
	}
	if got := Worst(r.Targets); got != Missed {
		t.Errorf("the worst is %s", got)
	}
	r.Targets = append(r.Targets[:1], r.Targets[2])
	if got := r.Missed(); got != "" {
		t.Errorf("missed %q", got)
	}
	if got := Worst(r.Targets); got != Undecided {
		t.Errorf("the worst is %s", got)
	}
	if got := Worst(r.Targets[:1]); got != Met {
		t.Errorf("the worst is %s", got)
	}
}
