package forwarding

import (
	"fmt"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

// NewBesideReport compares what a Beside measured; l are its lines.
func NewBesideReport(b Beside, l *report.Lines, took time.Duration) report.Report {
	out := report.Report{
		Name: "bench-churn",
		How: fmt.Sprintf("medians of %d turns of %s with %d changes a second of %d Services' endpoints, with their 95 %% confidence intervals; %s; %s in all",
			b.Turns, b.Length, b.Rate, b.Services, report.Machine(), took.Round(time.Second)),
		Table: report.Table{Columns: []string{"other program", "figure", "kube-proxy", "fairlead", "times better", "Mann-Whitney"}},
	}
	for _, every := range b.Every {
		out.Table.Rows = append(out.Table.Rows, besideRows(l, every)...)
		for _, f := range []struct{ what, unit string }{{"requests", "failed"}, {"Syncs", "failed-syncs"}} {
			failed := sum(l.Values(besideOf(every, "fairlead"), f.unit))
			out.Targets = append(out.Targets, report.Target{
				What: fmt.Sprintf("%s: no %s of fairlead fail", otherProgram(every), f.what),
				Got:  fmt.Sprintf("%.0f", failed), Verdict: report.Exact(failed).AtMost(0),
			})
		}
	}
	return out
}

func besideOf(every time.Duration, proxy string) string {
	return fmt.Sprintf("Beside/every=%s/proxy=%s", every, proxy)
}

func otherProgram(every time.Duration) string {
	if every == 0 {
		return "none"
	}
	return fmt.Sprintf("every %s", every)
}

// besideRows are the rows of one pace of the other program: first those that are
// compared, then counts over all turns.
func besideRows(l *report.Lines, every time.Duration) (out [][]string) {
	theirs, ours := besideOf(every, "kube-proxy"), besideOf(every, "fairlead")
	for _, f := range []struct{ what, unit string }{
		{"endpoint change, p50", "p50-sec"}, {"endpoint change, longest", "max-sec"},
		{"CPU of a change", "cpu-sec/op"}, {"longest since a Sync that succeeded", "stale-sec"},
	} {
		compared := l.InTurn(ours, theirs, f.unit)
		out = append(out, []string{
			otherProgram(every), f.what, report.Median(l.Values(theirs, f.unit)).Cell(f.unit), report.Median(l.Values(ours, f.unit)).Cell(f.unit),
			compared.Times.Ratio(), compared.Test(),
		})
	}
	for _, f := range []struct{ what, unit string }{
		{"failed Syncs", "failed-syncs"}, {"not in sync, of two looks a second", "out-of-sync"}, {"failed requests", "failed"},
	} {
		row := []string{otherProgram(every), f.what, fmt.Sprintf("%.0f", sum(l.Values(theirs, f.unit))), fmt.Sprintf("%.0f", sum(l.Values(ours, f.unit))), "", ""}
		if f.unit == "out-of-sync" {
			row[2] = "" // kube-proxy does not say
		}
		out = append(out, row)
	}
	return out
}

func sum(values []float64) (total float64) {
	for _, v := range values {
		total += v
	}
	return total
}
