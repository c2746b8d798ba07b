package forwarding

import (
	"fmt"
	"time"

	"golang.org/x/perf/benchfmt"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

// The limits of eBPF on every row: the part of the pod itself that it has to reach,
// and how much of that may be lost from the fewest to the most Services.
const (
	eastLimit = 0.97
	eastLevel = 0.95
)

// key is the route's in the names of lines.
func (r route) key() string {
	return [...]string{"bare", "kube-proxy", "pod", "nftables", "ebpf"}[r]
}

// eastKind is what is read from a kind of load.
type eastKind struct {
	load    string // eastLoad.name
	bench   string // the benchmark's name
	figures []eastFigure
}

type eastFigure struct {
	what, unit string
	of         func(work) float64 // in unit
}

var eastKinds = []eastKind{
	{"TCP connections", "Connect", []eastFigure{
		{"TCP connections/s", "conn/s", work.rate},
		{"CPU of a TCP connection", "cpu-sec/op", work.cpuEach},
	}},
	{"requests on a kept connection", "Request", []eastFigure{
		{"request on a kept connection, p50", "p50-sec", func(w work) float64 { return w.percentile(50) }},
		{"request on a kept connection, p99", "p99-sec", func(w work) float64 { return w.percentile(99) }},
		{"CPU of such a request", "cpu-sec/op", work.cpuEach},
	}},
	{"throughput", "Throughput", []eastFigure{
		{"throughput", "bit/s", func(w work) float64 { return 8 * w.rate() }},
	}},
	{"UDP requests", "Lookup", []eastFigure{
		{"UDP requests/s, a socket each", "req/s", work.rate},
		{"CPU of a UDP request", "cpu-sec/op", work.cpuEach},
	}},
}

// EastLines returns each turn as a line.
func EastLines(all []Crossing) *report.Lines {
	out := &report.Lines{}
	for _, c := range all {
		for _, kind := range eastKinds {
			if kind.load == c.Load {
				kind.lines(out, c)
			}
		}
	}
	return out
}

func (k eastKind) lines(out *report.Lines, c Crossing) {
	for _, run := range c.runs {
		for r := range routes {
			var values []benchfmt.Value
			for _, f := range k.figures {
				values = append(values, report.Of(f.of(run[r]), f.unit))
			}
			out.Add(k.of(c.Services, c.Place, r), 1, values...)
		}
	}
}

// of returns the name of the lines of a route.
func (k eastKind) of(services int, at place, r route) string {
	return fmt.Sprintf("%s/services=%d/pod=%s/route=%s", k.bench, services, [...]string{"near", "far"}[at], r.key())
}

// eastRow is one figure over all routes.
type eastRow struct {
	lines    *report.Lines
	services int
	place    place
	kind     eastKind
	eastFigure
}

// ratio is how many times better a is than b.
func (r eastRow) ratio(a, b route) report.Comparison {
	return r.lines.InTurn(r.kind.of(r.services, r.place, a), r.kind.of(r.services, r.place, b), r.unit)
}

// targets are what eBPF has to reach on every row.
func (r eastRow) targets() []report.Target {
	where := fmt.Sprintf("%d Services, %s, %s: ", r.services, r.place, r.what)
	part, more := r.ratio(byEBPF, direct).Times, r.ratio(byEBPF, byKubeProxy).Times
	return []report.Target{
		{What: fmt.Sprintf("%sat least %.2f of %s", where, eastLimit, direct), Got: part.Ratio(), Verdict: part.AtLeast(eastLimit)},
		{What: fmt.Sprintf("%sabove %s", where, byKubeProxy), Got: more.Ratio(), Verdict: more.Above(1)},
	}
}

var eastColumns = []string{"Services", "pod on", "figure", "no proxy", "kube-proxy", "pod itself", "fairlead nftables", "fairlead eBPF",
	"nftables : pod", "eBPF : no proxy", "eBPF : pod", "eBPF : kube-proxy", "Mann-Whitney", "verdict"}

func (r eastRow) cells() []string {
	out := []string{fmt.Sprint(r.services), r.place.String(), r.what}
	for route := range routes {
		out = append(out, report.Median(r.lines.Values(r.kind.of(r.services, r.place, route), r.unit)).Cell(r.unit))
	}
	for _, pair := range [][2]route{{byNFTables, direct}, {byEBPF, bare}, {byEBPF, direct}, {byEBPF, byKubeProxy}} {
		out = append(out, r.ratio(pair[0], pair[1]).Times.Ratio())
	}
	return append(out, r.ratio(byEBPF, byKubeProxy).Test(), string(report.Worst(r.targets())))
}

// eastRows lists the figures of each number of Services and place.
func eastRows(l *report.Lines, sizes []int) (out []eastRow) {
	for _, services := range sizes {
		for at := range places {
			for _, kind := range eastKinds {
				for _, f := range kind.figures {
					out = append(out, eastRow{l, services, at, kind, f})
				}
			}
		}
	}
	return out
}

// level compares the most Services with the fewest.
func (r eastRow) level(most int) report.Target {
	last := r
	last.services = most
	q := last.ratio(byEBPF, direct).Times.Over(r.ratio(byEBPF, direct).Times)
	return report.Target{
		What: fmt.Sprintf("level from %d to %d Services, %s, %s", r.services, most, r.place, r.what),
		Got:  q.Ratio(), Verdict: q.AtLeast(eastLevel),
	}
}

// NewEastReport compares what an EastWest measured; l are its lines.
func NewEastReport(b *EastWest, l *report.Lines, took time.Duration) report.Report {
	out := report.Report{
		Name: "bench-eastwest",
		How: fmt.Sprintf("the five took turns of %s, %d times; figures are medians of the turns, ratios medians of the ratios in one round, with their 95 %% confidence intervals; %s; %s in all",
			b.Length/eastTurns, b.Runs*eastTurns, report.Machine(), took.Round(time.Second)),
		Table: report.Table{Columns: eastColumns},
		Unmet: true,
	}
	fewest, most := b.Sizes[0], b.Sizes[len(b.Sizes)-1]
	for _, row := range eastRows(l, b.Sizes) {
		out.Table.Rows = append(out.Table.Rows, row.cells())
		out.Targets = append(out.Targets, row.targets()...)
		if row.services == fewest && fewest < most {
			out.Targets = append(out.Targets, row.level(most))
		}
	}
	return out
}
