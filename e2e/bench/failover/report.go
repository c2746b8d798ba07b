package failover

import (
	"fmt"
	"slices"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

// Lines returns each run as a line, over as many events as there were requests.
func Lines(runs []Run) *report.Lines {
	out := &report.Lines{}
	for _, r := range runs {
		out.Add(line(r.Scenario), r.Requests, report.Time(r.Gap, "gap-sec"), report.Time(r.Clean, "clean-sec"),
			report.Of(float64(r.Failed), "failed"), report.Of(float64(r.Cut), "cut"))
	}
	return out
}

func line(scenario string) string { return "Failover/scenario=" + scenario }

// Summary is one scenario's runs.
type Summary struct {
	Scenario
	Runs                  []Run
	Gap                   report.Figure // the longest gaps, in seconds
	Worst                 time.Duration // of them
	Clean                 time.Duration // the latest
	Failed, Cut, Requests int
}

// Summarise sums up the runs by scenario, in the scenarios' order.
func Summarise(runs []Run) (out []Summary) {
	lines := Lines(runs)
	for _, s := range Scenarios {
		sum := Summary{Scenario: s, Gap: report.Median(lines.Values(line(s.Name), "gap-sec"))}
		for _, r := range runs {
			if r.Scenario != s.Name {
				continue
			}
			sum.Runs = append(sum.Runs, r)
			sum.Failed, sum.Cut, sum.Requests = sum.Failed+r.Failed, sum.Cut+r.Cut, sum.Requests+r.Requests
			sum.Worst, sum.Clean = max(sum.Worst, r.Gap), max(sum.Clean, r.Result.Clean)
		}
		if len(sum.Runs) > 0 {
			out = append(out, sum)
		}
	}
	return out
}

// targets compares the median and the worst of all runs with what is allowed.
func (s Summary) targets() (out []report.Target) {
	within := func(what string, worst, most time.Duration) {
		out = append(out, report.Target{
			What: fmt.Sprintf("%s: %s within %.2f s", s.Title, what, most.Seconds()), Got: fmt.Sprintf("%.2f s", worst.Seconds()),
			Verdict: report.Exact(worst.Seconds()).AtMost(most.Seconds()),
		})
	}
	if s.Usual > 0 {
		out = append(out, report.Target{
			What: fmt.Sprintf("%s: the longest gap within %.2f s in the median run", s.Title, s.Usual.Seconds()),
			Got:  s.Gap.Cell("sec"), Verdict: s.Gap.AtMost(s.Usual.Seconds()),
		})
	}
	if s.Most > 0 {
		within("the longest gap", s.Worst, s.Most)
	} else {
		out = append(out, report.Target{
			What: s.Title + ": no request fails", Got: fmt.Sprint(s.Failed), Verdict: report.Exact(float64(s.Failed)).AtMost(0),
		})
	}
	if s.Scenario.Clean > 0 {
		within("clean for good", s.Clean, s.Scenario.Clean)
	}
	return out
}

// String is one line.
func (s Summary) String() string {
	return fmt.Sprintf("bench-failover: scenario=%s runs=%d gap_p50_s=%.2f gap_max_s=%.2f failed=%d cut=%d requests=%d clean_max_s=%.2f",
		s.Name, len(s.Runs), s.Gap.Center, s.Worst.Seconds(), s.Failed, s.Cut, s.Requests, s.Clean.Seconds())
}

func (s Summary) cells() []string {
	failed := fmt.Sprintf("%d of %d", s.Failed, s.Requests)
	if s.Cut > 0 {
		failed += fmt.Sprintf(", %d cut", s.Cut)
	}
	return []string{
		s.Title, fmt.Sprint(len(s.Runs)), s.Gap.Cell("sec"), report.Exact(s.Worst.Seconds()).Cell("sec"), failed, report.Exact(s.Clean.Seconds()).Cell("sec"),
	}
}

// notes lists what else was seen, each once.
func (s Summary) notes() (out []string) {
	for _, r := range s.Runs {
		if note := s.Title + ": " + r.Notes; r.Notes != "" && !slices.Contains(out, note) {
			out = append(out, note)
		}
	}
	return out
}

// NewReport says what came of all scenarios.
func NewReport(sums []Summary, took time.Duration) report.Report {
	out := report.Report{
		Name:  "bench-failover",
		How:   fmt.Sprintf("gaps are medians with their 95 %% confidence intervals; %s; %s in all", report.Machine(), took.Round(time.Second)),
		Table: report.Table{Columns: []string{"fault", "runs", "longest gap, median", "longest gap, worst", "failed requests", "clean for good, at the latest"}},
		Unmet: true,
	}
	out.Plot = "The longest gap of each run; a digit is how many runs had it:\n\n" + report.Indented(plot(sums))
	for _, s := range sums {
		out.Table.Rows = append(out.Table.Rows, s.cells())
		out.Targets = append(out.Targets, s.targets()...)
		out.Notes = append(out.Notes, s.notes()...)
	}
	return out
}
