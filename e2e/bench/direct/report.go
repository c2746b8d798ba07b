package direct

import (
	"fmt"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

// NewReport compares the ways whose lines are l.
func NewReport(b Bench, l *report.Lines, took time.Duration) report.Report {
	out := report.Report{
		Name: "bench-director",
		How: fmt.Sprintf("medians of %d runs, and of %d across subnets, with their 95 %% confidence intervals; pods on other nodes than the owner; connections for %s, then %d downloads of %d MB; %s; %s in all",
			b.Runs, b.FarRuns, b.Connections, b.Downloads, b.Size/1e6, report.Machine(), took.Round(time.Second)),
		Table: report.Table{Columns: []string{"figure", "kube-proxy", "Masquerade", "Direct", "Direct, times better than Masquerade", "Mann-Whitney"}},
	}
	out.Table.Rows = append(rows(l, "", line), rows(l, "across subnets: ", farLine)...)
	out.Plot = plot(l)
	out.Targets = targets(l)
	return out
}

// rows are those of the lines that name names.
func rows(l *report.Lines, where string, name func(Way) string) (out [][]string) {
	ways := []Way{KubeProxy, Masquerade, Direct}
	for _, f := range []struct{ what, unit string }{
		{"connections/s, each with one request", "conn/s"}, {"bytes downloaded a second", "B/s"},
		{"bytes on the owner's link for a byte downloaded", "owner-bytes/B"}, {"CPU of the whole machine for a GB", "cpu-sec/GB"},
	} {
		compared := l.InTurn(name(Direct), name(Masquerade), f.unit)
		row := []string{where + f.what}
		for _, way := range ways {
			row = append(row, report.Median(l.Values(name(way), f.unit)).Cell(f.unit))
		}
		out = append(out, append(row, compared.Times.Ratio(), compared.Test()))
	}
	for _, f := range []struct{ what, unit string }{{"connections whose client the pod sees as a node", "hidden"}, {"connections that failed", "failed"}} {
		row := []string{where + f.what}
		for _, way := range ways {
			row = append(row, count(l.Values(name(way), f.unit)))
		}
		out = append(out, append(row, "", ""))
	}
	return out
}

// plot draws each run of each way.
func plot(l *report.Lines) (out string) {
	for i, p := range []struct {
		what, unit string
		axis       report.Axis
	}{
		{"connections/s", "conn/s", axis(1000, "%.0f/s")},
		{"CPU for a GB", "cpu-sec/GB", axis(0.5, "%.2f s")},
	} {
		var all []report.Series
		for _, way := range []Way{KubeProxy, Masquerade, Direct} {
			all = append(all, report.Series{Title: string(way), Values: l.Values(line(way), p.unit)})
		}
		if i > 0 {
			out += "\n"
		}
		out += p.what + ", a digit is how many runs had it:\n\n" + report.Indented(p.axis.Plot(all))
	}
	return out
}

// axis ends at a step behind the highest value, and prints values by a format.
func axis(step float64, format string) report.Axis {
	return report.Axis{Until: step, Step: step, Tick: func(v float64) string { return fmt.Sprintf(format, v) }}
}

func count(values []float64) string {
	if len(values) == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f", sum(values))
}

// targets compares Direct with Masquerade of the same run. Across subnets the header costs what
// it costs: no connection may fail there, or hide its client.
func targets(l *report.Lines) []report.Target {
	better := func(unit string) report.Figure { return l.InTurn(line(Direct), line(Masquerade), unit).Times }
	rate, link, cpu := better("conn/s"), better("owner-bytes/B"), better("cpu-sec/GB")
	all := func(unit string) float64 {
		return sum(append(l.Values(line(Direct), unit), l.Values(farLine(Direct), unit)...))
	}
	hidden, failed := all("hidden"), all("failed")
	return []report.Target{
		{What: "connections/s: at least 1.2 times Masquerade's", Got: rate.Ratio(), Verdict: rate.AtLeast(1.2)},
		{What: "bytes on the owner's link: at most 5 % of Masquerade's (20 times better)", Got: link.Ratio(), Verdict: link.AtLeast(20)},
		{What: "CPU for a GB: at most 0.8 of Masquerade's (1.25 times better)", Got: cpu.Ratio(), Verdict: cpu.AtLeast(1.25)},
		{What: "the pod sees the client of each connection", Got: fmt.Sprintf("%.0f hidden", hidden), Verdict: report.Exact(hidden).AtMost(0)},
		{What: "no connection fails", Got: fmt.Sprintf("%.0f failed", failed), Verdict: report.Exact(failed).AtMost(0)},
	}
}

func sum(values []float64) (total float64) {
	for _, v := range values {
		total += v
	}
	return total
}
