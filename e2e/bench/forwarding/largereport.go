package forwarding

import (
	"fmt"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

// largeFigure is a row of the report of a Large.
type largeFigure struct {
	what  string
	bench string // the benchmark's name, and its first keys
	unit  string
	every bool // it was measured without the other program and beside it
}

var (
	largeCPU     = largeFigure{"endpoint change, CPU", "LargeChange", "cpu-sec/op", true}
	largeP99     = largeFigure{"endpoint change, p99", "LargeChange", "p99-sec", true}
	largeFailed  = largeFigure{"failed Syncs while endpoints change", "LargeChange", "failed-syncs", true}
	largeRSS     = largeFigure{"resident memory", "LargeMemory", "B", false}
	largePeak    = largeFigure{"resident memory, most", "LargeMemory", "peak-B", false}
	againRSS     = largeFigure{"resident memory after a restart", "LargeMemory/start=again", "B", false}
	againPeak    = largeFigure{"resident memory after a restart, most", "LargeMemory/start=again", "peak-B", false}
	restartCPU   = largeFigure{"restart until the first Sync, CPU without informers", "Restart", "sync-cpu-sec", false}
	restartSyncs = largeFigure{"failed Syncs at restarts", "Restart", "failed-syncs", false}
)

// largeFigures are the rows of each Crowd.
var largeFigures = []largeFigure{
	{"first load, programming", "LargeLoad", "program-sec", false},
	{"first load, from process start", "LargeLoad", "start-sec", false},
	{"first load, CPU", "LargeLoad", "cpu-sec", false},
	{"endpoint change, p50", "LargeChange", "sec", true},
	largeP99, largeCPU, largeFailed, largeRSS, largePeak,
	{"restart, CPU of informers", "Restart", "informers-cpu-sec", false},
	restartCPU,
	{"restart, from the end of the list to the first Sync", "Restart", "sync-sec", false},
	restartSyncs, againRSS, againPeak,
}

// of returns the name of the figure's lines.
func (f largeFigure) of(c Crowd, proxy string, every time.Duration) string {
	name := fmt.Sprintf("%s/services=%s/proxy=%s", f.bench, c, proxy)
	if f.every {
		name += fmt.Sprintf("/every=%s", every)
	}
	return name
}

// rows shows the figure of one Crowd: a row for each pace of the other program.
func (f largeFigure) rows(l *report.Lines, c Crowd, paces []time.Duration) (out [][]string) {
	for _, every := range paces {
		theirs, ours := l.Values(f.of(c, "kube-proxy", every), f.unit), l.Values(f.of(c, "fairlead", every), f.unit)
		compared := l.Apart(f.of(c, "fairlead", every), f.of(c, "kube-proxy", every), f.unit)
		other := ""
		if f.every {
			other = otherProgram(every)
		}
		out = append(out, []string{c.String(), f.what, other, report.Median(theirs).Cell(f.unit), report.Median(ours).Cell(f.unit), compared.Times.Ratio(), compared.Test()})
		if !f.every {
			break
		}
	}
	return out
}

// NewLargeReport compares what a Large measured, of which l are the lines.
func NewLargeReport(b Large, l *report.Lines, took time.Duration) report.Report {
	out := report.Report{
		Name: "bench-large",
		How: fmt.Sprintf("medians of %d blocks of %d changes and of %d restarts, with their 95 %% confidence intervals; the other program changes its table every %s; %s; %s in all",
			(b.Changes+changesIn-1)/changesIn, changesIn, b.Starts, b.Every, report.Machine(), took.Round(time.Second)),
		Table: report.Table{Columns: []string{"Services", "figure", "other program", "kube-proxy", "fairlead", "times better", "Mann-Whitney"}},
	}
	for _, c := range b.Crowds {
		for _, f := range largeFigures {
			out.Table.Rows = append(out.Table.Rows, f.rows(l, c, []time.Duration{0, b.Every})...)
		}
		if gaveUp := l.Values(largeFigure{bench: "LargeLoad"}.of(c, "kube-proxy", 0), "gave-up-sec"); len(gaveUp) > 0 {
			out.Notes = append(out.Notes, fmt.Sprintf("%s: kube-proxy did not finish its first load in %s", c, c.KubeProxy))
		}
		out.Targets = append(out.Targets, b.judge(l, c)...)
	}
	return out
}

// judge returns the targets of one Crowd.
func (b Large) judge(l *report.Lines, c Crowd) (out []report.Target) {
	add := func(f largeFigure, every time.Duration, limit float64) {
		got := report.Median(l.Values(f.of(c, "fairlead", every), f.unit))
		verdict, text := got.Below(limit), report.Exact(limit).Cell(f.unit)
		if limit == 0 {
			verdict, text = got.AtMost(0), "none"
		}
		what := fmt.Sprintf("%s: %s below %s", c, f.what, text)
		if limit == 0 {
			what = fmt.Sprintf("%s: %s: none", c, f.what)
		}
		if f.every {
			what += fmt.Sprintf(", other program: %s", otherProgram(every))
		}
		out = append(out, report.Target{What: what, Got: got.Cell(f.unit), Verdict: verdict})
	}
	cpu := 10e-3
	if c.Balanced {
		cpu = 5e-3
	}
	for _, every := range []time.Duration{0, b.Every} {
		add(largeCPU, every, cpu)
		add(largeP99, every, 50e-3)
		add(largeFailed, every, 0)
	}
	add(restartCPU, 0, 3)
	add(restartSyncs, 0, 0)
	for _, f := range []largeFigure{largeRSS, againRSS} {
		add(f, 0, 350<<20)
	}
	for _, f := range []largeFigure{largePeak, againPeak} {
		add(f, 0, 500<<20)
	}
	return out
}
