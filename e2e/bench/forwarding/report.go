package forwarding

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/e2e/bench/plot"
)

// Picture is the file beside the document that a Report's Markdown shows.
const Picture = "bench-proxy.svg"

// Report is what is said of results.
type Report struct {
	Took    time.Duration
	bench   Bench
	results []Result
	rows    []row
	targets []target
}

// row compares one figure.
type row struct {
	services            int
	what                string
	kubeProxy, fairlead float64
	direct              float64 // 0: not measured
	format              func(float64) string
	gain                bool // the greater the better
}

// ratio is how many times better fairlead is.
func (r row) ratio() float64 {
	if r.gain {
		return quotient(r.fairlead, r.kubeProxy)
	}
	return quotient(r.kubeProxy, r.fairlead)
}

func quotient(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// NewReport makes a Report of what a Bench measured.
func NewReport(b Bench, results []Result) Report {
	r := Report{bench: b, results: results, targets: judge(results)}
	for _, one := range results {
		r.rows = append(r.rows, one.rows()...)
	}
	return r
}

func (r Result) rows() []row {
	k, f := r.KubeProxy, r.Fairlead
	seconds := func(d time.Duration) float64 { return d.Seconds() }
	pair := func(what string, of func(Measured) float64, format func(float64) string) row {
		return row{services: r.Services, what: what, kubeProxy: of(k), fairlead: of(f), format: format}
	}
	out := []row{
		pair("first load, programming", func(m Measured) float64 { return seconds(m.program()) }, plot.Seconds),
		pair("first load, from process start", func(m Measured) float64 { return seconds(m.wall()) }, plot.Seconds),
		pair("first load, CPU", func(m Measured) float64 { return seconds(m.loadCPU()) }, plot.Seconds),
		pair("endpoint change, p50", func(m Measured) float64 { return seconds(at(m.changes.took, 50)) }, plot.Seconds),
		pair("endpoint change, p99", func(m Measured) float64 { return seconds(at(m.changes.took, 99)) }, plot.Seconds),
		pair("endpoint change, CPU", func(m Measured) float64 { return seconds(m.changes.cpu) }, plot.Seconds),
		pair("resident memory", func(m Measured) float64 { return float64(m.memory) }, mebibytes),
	}
	for _, path := range []struct {
		name string
		of   func(Measured) []rate
	}{{"NodePort", func(m Measured) []rate { return m.nodePort }}, {"VIP", func(m Measured) []rate { return m.vip }}} {
		for _, figure := range []struct {
			what   string
			of     func(rate) float64
			format func(float64) string
			gain   bool
		}{
			{", connections/s", perSecond, plot.Count, true},
			{", connect p50", func(r rate) float64 { return seconds(r.p50) }, plot.Seconds, false},
			{", connect p99", func(r rate) float64 { return seconds(r.p99) }, plot.Seconds, false},
		} {
			one := pair(path.name+figure.what, func(m Measured) float64 { return median(path.of(m), figure.of) }, figure.format)
			one.direct, one.gain = median(slices.Concat(k.pod, f.pod), figure.of), figure.gain
			out = append(out, one)
		}
	}
	return out
}

func mebibytes(v float64) string { return fmt.Sprintf("%.0f MiB", v/(1<<20)) }

var columns = []string{"Services", "figure", "kube-proxy", "fairlead", "times better", "pod itself"}

func (r row) cells() []string {
	ratio, direct := "-", ""
	if q := r.ratio(); q > 0 {
		ratio = fmt.Sprintf("%.3g", q)
	}
	if r.direct > 0 {
		direct = r.format(r.direct)
	}
	return []string{plot.Count(float64(r.services)), r.what, r.format(r.kubeProxy), r.format(r.fairlead), ratio, direct}
}

// Text is the report for a terminal.
func (r Report) Text() string {
	var out strings.Builder
	fmt.Fprintf(&out, "bench-proxy: %s\n", r.how())
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, strings.Join(columns, "\t"))
	for _, row := range r.rows {
		fmt.Fprintln(table, strings.Join(row.cells(), "\t"))
	}
	fmt.Fprintln(table)
	for _, t := range r.targets {
		fmt.Fprintf(table, "%s\t%s\t%s\n", t.verdict(), t.what, t.got)
	}
	_ = table.Flush() // a string takes all
	return out.String()
}

// how says what was done, and on what.
func (r Report) how() string {
	return fmt.Sprintf("median of %d loads, %d endpoint changes, median of %d alternating runs of %s; %d cores, Linux %s; %s in all",
		r.bench.Loads, r.bench.Changes, r.bench.Runs, r.bench.Length, runtime.NumCPU(), kernel(), r.Took.Round(time.Second))
}

func kernel() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "?"
	}
	version, _, _ := strings.Cut(unix.ByteSliceToString(name.Release[:]), "-")
	return version
}

// Markdown is the report for the documentation.
func (r Report) Markdown() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s: %s.\n\n![Time against the number of Services](%s)\n\n", time.Now().Format(time.DateOnly), r.how(), Picture)
	line := func(cells []string) { fmt.Fprintf(&out, "| %s |\n", strings.Join(cells, " | ")) }
	line(columns)
	line([]string{"--:", "---", "--:", "--:", "--:", "--:"})
	for _, row := range r.rows {
		line(row.cells())
	}
	fmt.Fprintln(&out)
	line([]string{"target", "measured", ""})
	line([]string{"---", "---", "---"})
	for _, t := range r.targets {
		line([]string{t.what, t.got, t.verdict()})
	}
	return out.String()
}

// Missed names the targets that were not met.
func (r Report) Missed() string {
	var out []string
	for _, t := range r.targets {
		if !t.met {
			out = append(out, t.what)
		}
	}
	return strings.Join(out, "; ")
}

// Chart shows how loads and changes grow with the number of Services.
func (r Report) Chart() plot.Chart {
	c := plot.Chart{
		Title: "How long it takes, by the number of Services with two endpoints",
		X:     plot.Axis{Label: "Services", Log: true, Format: plot.Count},
		Y:     plot.Axis{Label: "time", Log: true, Format: plot.Seconds},
	}
	add := func(name string, colour int, dashed bool, of func(Result) time.Duration) {
		s := plot.Series{Name: name, Colour: colour, Dashed: dashed}
		for _, one := range r.results {
			s.Points = append(s.Points, plot.Point{X: float64(one.Services), Y: of(one).Seconds()})
		}
		c.Series = append(c.Series, s)
	}
	add("kube-proxy: first load", 2, false, func(r Result) time.Duration { return r.KubeProxy.program() })
	add("fairlead: first load", 1, false, func(r Result) time.Duration { return r.Fairlead.program() })
	add("kube-proxy: endpoint change, median", 2, true, func(r Result) time.Duration { return at(r.KubeProxy.changes.took, 50) })
	add("fairlead: endpoint change, median", 1, true, func(r Result) time.Duration { return at(r.Fairlead.changes.took, 50) })
	return c
}
