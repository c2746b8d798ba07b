package forwarding

import (
	"fmt"
	"slices"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

// Lines returns each measurement of results as a line.
func Lines(results []Result) *report.Lines {
	out := &report.Lines{}
	for _, r := range results {
		for _, one := range []struct {
			by string
			Measured
		}{{"kube-proxy", r.KubeProxy}, {"fairlead", r.Fairlead}} {
			one.lines(out, fmt.Sprintf("services=%d/proxy=%s", r.Services, one.by))
		}
		r.connections(out)
	}
	return out
}

// lines adds what a contender does itself.
func (m Measured) lines(out *report.Lines, keys string) {
	for _, l := range m.loads {
		out.Add("Load/"+keys, 1, report.Time(l.program, "program-sec"), report.Time(l.wall, "start-sec"), report.Time(l.cpu, "cpu-sec"))
	}
	for _, took := range m.changes.took {
		out.Add("Change/"+keys, 1, report.Time(took, "sec"))
	}
	out.Add("Change/"+keys, len(m.changes.took), report.Time(at(m.changes.took, 99), "p99-sec"), report.Time(m.changes.cpu, "cpu-sec/op"))
	out.Add("Memory/"+keys, 1, report.Of(float64(m.memory), "B"))
}

// connections adds the runs in which both took turns. The pod itself is reached past
// the rules of either.
func (r Result) connections(out *report.Lines) {
	for _, one := range []struct {
		by string
		rates
	}{{"kube-proxy", r.KubeProxy.rates}, {"fairlead", r.Fairlead.rates}} {
		for _, path := range []struct {
			to   string
			runs []rate
		}{{"NodePort", one.nodePort}, {"VIP", one.vip}, {"pod", one.pod}} {
			for _, run := range path.runs {
				out.Add(fmt.Sprintf("Connect/to=%s/services=%d/proxy=%s", path.to, r.Services, one.by), 1,
					report.Of(run.perSecond, "conn/s"), report.Time(run.p50, "p50-sec"), report.Time(run.p99, "p99-sec"), report.Of(float64(run.failed), "failed"))
			}
		}
	}
}

// figure is one that the report compares.
type figure struct {
	what  string
	bench string // the benchmark's name, and its first keys
	unit  string
	turns bool // both took turns
}

var (
	programming = figure{"first load, programming", "Load", "program-sec", false}
	changing    = figure{"endpoint change, p50", "Change", "sec", false}
	changeP99   = figure{"endpoint change, p99", "Change", "p99-sec", false}
	changeCPU   = figure{"endpoint change, CPU", "Change", "cpu-sec/op", false}
	memory      = figure{"resident memory", "Memory", "B", false}
	nodePorts   = figure{"NodePort, connections/s", "Connect/to=NodePort", "conn/s", true}
	vips        = figure{"VIP, connections/s", "Connect/to=VIP", "conn/s", true}
	pods        = figure{"pod itself, connections/s", "Connect/to=pod", "conn/s", true}
)

// figures are the rows of each number of Services.
var figures = []figure{
	programming,
	{"first load, from process start", "Load", "start-sec", false},
	{"first load, CPU", "Load", "cpu-sec", false},
	changing, changeP99, changeCPU, memory, nodePorts,
	{"NodePort, connect p50", "Connect/to=NodePort", "p50-sec", true},
	{"NodePort, connect p99", "Connect/to=NodePort", "p99-sec", true},
	vips,
	{"VIP, connect p50", "Connect/to=VIP", "p50-sec", true},
	{"VIP, connect p99", "Connect/to=VIP", "p99-sec", true},
}

// of returns the name of the figure's lines.
func (f figure) of(services int, proxy string) string {
	return fmt.Sprintf("%s/services=%d/proxy=%s", f.bench, services, proxy)
}

// median returns what fairlead reached.
func (f figure) median(l *report.Lines, services int) report.Figure {
	return report.Median(l.Values(f.of(services, "fairlead"), f.unit))
}

// better compares fairlead with kube-proxy.
func (f figure) better(l *report.Lines, services int) report.Comparison {
	a, b := f.of(services, "fairlead"), f.of(services, "kube-proxy")
	if f.turns {
		return l.InTurn(a, b, f.unit)
	}
	return l.Apart(a, b, f.unit)
}

// row shows one figure of one number of Services.
func (f figure) row(l *report.Lines, services int) []string {
	kubeProxy, fairlead := f.of(services, "kube-proxy"), f.of(services, "fairlead")
	var direct report.Figure
	if f.turns {
		pod := figure{bench: pods.bench}
		direct = report.Median(slices.Concat(l.Values(pod.of(services, "kube-proxy"), f.unit), l.Values(pod.of(services, "fairlead"), f.unit)))
	}
	compared := f.better(l, services)
	return []string{
		fmt.Sprint(services), f.what,
		report.Median(l.Values(kubeProxy, f.unit)).Cell(f.unit), report.Median(l.Values(fairlead, f.unit)).Cell(f.unit),
		compared.Times.Ratio(), compared.Test(), direct.Cell(f.unit),
	}
}

// NewReport compares what a Bench measured; l are its lines.
func NewReport(b Bench, l *report.Lines, took time.Duration) report.Report {
	out := report.Report{
		Name: "bench-proxy",
		How: fmt.Sprintf("medians of %d loads, %d endpoint changes and %d alternating runs of %s, with their 95 %% confidence intervals; %s; %s in all",
			b.Loads, b.Changes, b.Runs, b.Length, report.Machine(), took.Round(time.Second)),
		Table:   report.Table{Columns: []string{"Services", "figure", "kube-proxy", "fairlead", "times better", "Mann-Whitney", "pod itself"}},
		Targets: judge(l, b.Sizes),
	}
	for _, services := range b.Sizes {
		for _, f := range figures {
			out.Table.Rows = append(out.Table.Rows, f.row(l, services))
		}
	}
	return out
}
