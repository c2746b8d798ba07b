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
	count bool // of failures, which are added up
}

var (
	largeCPU     = largeFigure{"endpoint change, CPU", "LargeChange", "cpu-sec/op", true, false}
	largeP99     = largeFigure{"endpoint change, p99", "LargeChange", "p99-sec", true, false}
	largeFailed  = largeFigure{"failed Syncs while endpoints change", "LargeChange", "failed-syncs", true, true}
	largeRSS     = largeFigure{"resident memory", "LargeMemory", "B", false, false}
	largePeak    = largeFigure{"resident memory, most", "LargeMemory", "peak-B", false, false}
	againRSS     = largeFigure{"resident memory after a restart", "LargeMemory/start=again", "B", false, false}
	againPeak    = largeFigure{"resident memory after a restart, most", "LargeMemory/start=again", "peak-B", false, false}
	restartCPU   = largeFigure{"restart until the first Sync, CPU without informers", "Restart", "sync-cpu-sec", false, false}
	restartSyncs = largeFigure{"failed Syncs at restarts", "Restart", "failed-syncs", false, true}
)

// largeFigures are the rows of each Crowd.
var largeFigures = []largeFigure{
	{"first load, programming", "LargeLoad", "program-sec", false, false},
	{"first load, from process start", "LargeLoad", "start-sec", false, false},
	{"first load, CPU", "LargeLoad", "cpu-sec", false, false},
	{"endpoint change, p50", "LargeChange", "sec", true, false},
	largeP99, largeCPU, {"CPU of a second without a change", "LargeIdle", "idle-cpu-sec", true, false}, largeFailed, largeRSS, largePeak,
	{"restart, CPU of informers", "Restart", "informers-cpu-sec", false, false},
	restartCPU,
	{"restart, from the end of the list to the first Sync", "Restart", "sync-sec", false, false},
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
	if !f.every {
		paces = paces[:1]
	}
	for _, every := range paces {
		row := []string{c.String(), f.what, "", f.cell(l, c, "kube-proxy", every), f.cell(l, c, "fairlead", every), "", ""}
		if f.every {
			row[2] = otherProgram(every)
		}
		if compared := l.Apart(f.of(c, "fairlead", every), f.of(c, "kube-proxy", every), f.unit); !f.count {
			row[5], row[6] = compared.Times.Ratio(), compared.Test()
		}
		out = append(out, row)
	}
	return out
}

// cell shows what one of the two reached; "" if it was not measured.
func (f largeFigure) cell(l *report.Lines, c Crowd, proxy string, every time.Duration) string {
	values := l.Values(f.of(c, proxy, every), f.unit)
	if f.count && len(values) > 0 {
		return fmt.Sprintf("%.0f", sum(values))
	}
	return report.Median(values).Cell(f.unit)
}

// NewLargeReport compares what a Large measured; l are its lines.
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
		out.Notes = append(out.Notes, b.gaveUp(l, c)...)
		out.Targets = append(out.Targets, b.judge(l, c)...)
	}
	return out
}

// gaveUp says what kube-proxy did not finish.
func (b Large) gaveUp(l *report.Lines, c Crowd) (notes []string) {
	if len(l.Values(largeFigure{bench: "LargeLoad"}.of(c, "kube-proxy", 0), "gave-up-sec")) > 0 {
		notes = append(notes, fmt.Sprintf("%s: kube-proxy did not finish its first load in %s", c, c.KubeProxy))
	}
	for _, every := range []time.Duration{0, b.Every} {
		if len(l.Values(largeCPU.of(c, "kube-proxy", every), "gave-up-sec")) > 0 {
			notes = append(notes, fmt.Sprintf("%s: kube-proxy did not finish a change in %s, other program: %s", c, patience, otherProgram(every)))
		}
	}
	return notes
}

// judge returns the targets of one Crowd.
func (b Large) judge(l *report.Lines, c Crowd) (out []report.Target) {
	add := func(f largeFigure, every time.Duration, limit float64) {
		what := fmt.Sprintf("%s: %s", c, f.what)
		if f.every {
			what += fmt.Sprintf(", other program: %s", otherProgram(every))
		}
		values := l.Values(f.of(c, "fairlead", every), f.unit)
		verdict := report.Median(values).Below(limit)
		if f.count {
			what, verdict = what+": none", report.Exact(sum(values)).AtMost(0)
		} else {
			what += " below " + report.Exact(limit).Cell(f.unit)
		}
		out = append(out, report.Target{What: what, Got: f.cell(l, c, "fairlead", every), Verdict: verdict})
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
