package forwarding

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/plot"
)

// EastPicture is the file beside the document that an EastReport's Markdown shows.
const EastPicture = "bench-eastwest.svg"

// What eBPF has to reach on every row of the pod itself.
const eastLimit = 0.97

// EastReport is what is said of Crossings.
type EastReport struct {
	Took  time.Duration
	bench EastWest
	rows  []eastRow
}

// eastRow is one figure over all routes.
type eastRow struct {
	services int
	place    place
	what     string
	format   func(float64) string
	gain     bool // the greater the better
	runs     [][routes]float64
}

// NewEastReport makes an EastReport of what was measured.
func NewEastReport(b *EastWest, all []Crossing) EastReport {
	r := EastReport{bench: *b}
	for _, c := range all {
		r.rows = append(r.rows, c.rows()...)
	}
	return r
}

// figure is something that is read from a work.
type figure struct {
	what   string
	of     func(work) float64
	format func(float64) string
	gain   bool
}

// figures are those of each kind of load.
var figures = map[string][]figure{
	"TCP connections": {
		{"TCP connections/s", work.rate, plot.Count, true},
		{"CPU of a TCP connection", work.cpuEach, plot.Seconds, false},
	},
	"requests on a kept connection": {
		{"request on a kept connection, p50", func(w work) float64 { return w.percentile(50) }, plot.Seconds, false},
		{"request on a kept connection, p99", func(w work) float64 { return w.percentile(99) }, plot.Seconds, false},
		{"CPU of such a request", work.cpuEach, plot.Seconds, false},
	},
	"throughput": {
		{"throughput", work.rate, func(v float64) string { return fmt.Sprintf("%.1f Gbit/s", 8*v/1e9) }, true},
	},
	"UDP requests": {
		{"UDP requests/s, a socket each", work.rate, plot.Count, true},
		{"CPU of a UDP request", work.cpuEach, plot.Seconds, false},
	},
}

func (c Crossing) rows() (out []eastRow) {
	for _, f := range figures[c.Load] {
		row := eastRow{services: c.Services, place: c.Place, what: f.what, format: f.format, gain: f.gain}
		for _, run := range c.runs {
			var values [routes]float64
			for r := range run {
				values[r] = f.of(run[r])
			}
			row.runs = append(row.runs, values)
		}
		out = append(out, row)
	}
	return out
}

// ratio is how much better one route is than another: the median of the runs', and
// between what that lies with a probability of 95 %.
type ratio struct{ median, low, high float64 }

func (r eastRow) ratio(a, b route) ratio {
	all := make([]float64, len(r.runs))
	for i, v := range r.runs {
		if all[i] = quotient(v[b], v[a]); r.gain {
			all[i] = quotient(v[a], v[b])
		}
	}
	slices.Sort(all)
	low, high := middle(len(all))
	return ratio{at(all, 50), all[low], all[high]}
}

// middle returns between which two of n sorted values the median of all that could be
// measured lies, with a probability of 95 %: how many of n are below it is binomial.
func middle(n int) (low, high int) {
	half := 1.96 * math.Sqrt(float64(n)) / 2
	low = max(0, int(math.Floor(float64(n)/2-half)))
	return low, n - 1 - low
}

func (r ratio) String() string { return fmt.Sprintf("%.3f (%.3f-%.3f)", r.median, r.low, r.high) }

// reaches tells whether a ratio is above what is wanted.
func (r ratio) reaches(limit float64) string {
	switch {
	case r.median > limit:
		return met
	case r.high > limit:
		return undecided
	}
	return missed
}

// wanted are what eBPF has to reach on every row.
var wanted = []struct {
	than  route
	limit float64
}{{direct, eastLimit}, {byKubeProxy, 1}}

// short names what eBPF did not reach, with a verdict.
func (r eastRow) short(verdict string) (out []string) {
	for _, w := range wanted {
		if q := r.ratio(byEBPF, w.than); q.reaches(w.limit) == verdict {
			out = append(out, fmt.Sprintf("%d Services, %s, %s: %s of %s", r.services, r.place, r.what, q, w.than))
		}
	}
	return out
}

func (r eastRow) verdict() string {
	switch {
	case len(r.short(missed)) > 0:
		return missed
	case len(r.short(undecided)) > 0:
		return undecided
	}
	return met
}

func (r eastRow) cells() []string {
	out := []string{plot.Count(float64(r.services)), r.place.String(), r.what}
	for route := range routes {
		out = append(out, r.format(median(r.runs, func(v [routes]float64) float64 { return v[route] })))
	}
	for _, pair := range [][2]route{{byNFTables, direct}, {byEBPF, bare}} {
		out = append(out, fmt.Sprintf("%.3f", r.ratio(pair[0], pair[1]).median))
	}
	for _, w := range wanted {
		out = append(out, r.ratio(byEBPF, w.than).String())
	}
	return append(out, r.verdict())
}

var eastColumns = []string{"Services", "pod on", "figure", "no proxy", "kube-proxy", "pod itself", "fairlead nftables", "fairlead eBPF",
	"nftables : pod", "eBPF : no proxy", "eBPF : pod", "eBPF : kube-proxy", ""}

// Text is the report for a terminal.
func (r EastReport) Text() string {
	var out strings.Builder
	fmt.Fprintf(&out, "bench-eastwest: %s\n", r.how())
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, strings.Join(eastColumns, "\t"))
	for _, row := range r.rows {
		fmt.Fprintln(table, strings.Join(row.cells(), "\t"))
	}
	_ = table.Flush() // a string takes all
	fmt.Fprintf(&out, "\ntargets, on each row: eBPF at least %.2f of the pod itself, and above kube-proxy\n", eastLimit)
	for _, row := range r.rows {
		for _, what := range row.short(undecided) {
			fmt.Fprintf(&out, "undecided: %s\n", what)
		}
	}
	out.WriteString(r.flat())
	return out.String()
}

func (r EastReport) how() string {
	return fmt.Sprintf("the five took turns of %s, %d times; figures are medians of the turns, ratios medians of the ratios in one round, with their 95 %% confidence intervals; %d cores, Linux %s; %s in all",
		r.bench.Length/eastTurns, r.bench.Runs*eastTurns, runtime.NumCPU(), kernel(), r.Took.Round(time.Second))
}

// level is how much of a figure eBPF may lose from the fewest to the most
// Services.
const level = 0.95

// flat compares the fewest with the most Services, row by row.
func (r EastReport) flat() string {
	var out strings.Builder
	for _, f := range r.flatness() {
		fmt.Fprintf(&out, "%s: %s\n", f.verdict(), f.what+": "+f.got)
	}
	return out.String()
}

func (r EastReport) flatness() (out []target) {
	for _, one := range r.rows {
		last := r.rows[len(r.rows)-1].services
		if one.services != r.rows[0].services || one.services == last {
			continue
		}
		for _, other := range r.rows {
			if other.services == last && other.place == one.place && other.what == one.what {
				q := quotient(other.ratio(byEBPF, direct).median, one.ratio(byEBPF, direct).median)
				out = append(out, target{fmt.Sprintf("level from %d to %d Services, %s, %s", one.services, last, one.place, one.what), fmt.Sprintf("%.3f", q), q >= level})
			}
		}
	}
	return out
}

// Markdown is the report for the documentation.
func (r EastReport) Markdown() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s: %s.\n\n![How near each comes to the pod itself](%s)\n\n", time.Now().Format(time.DateOnly), r.how(), EastPicture)
	line := func(cells []string) { fmt.Fprintf(&out, "| %s |\n", strings.Join(cells, " | ")) }
	line(eastColumns)
	line([]string{"--:", "---", "---", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "---"})
	for _, row := range r.rows {
		line(row.cells())
	}
	counted := map[string]int{}
	for _, row := range r.rows {
		counted[row.verdict()]++
	}
	fmt.Fprintf(&out, "\nOf %d rows %d meet both targets, %d are undecided, %d miss one.\n", len(r.rows), counted[met], counted[undecided], counted[missed])
	even := 0
	flat := r.flatness()
	for _, f := range flat {
		if f.met {
			even++
		}
	}
	if len(flat) > 0 {
		fmt.Fprintf(&out, "Level to %d Services, within 5 %%: %d of %d figures.\n", r.rows[len(r.rows)-1].services, even, len(flat))
	}
	return out.String()
}

// Missed names the targets that were not met.
func (r EastReport) Missed() string {
	var out []string
	for _, row := range r.rows {
		out = append(out, row.short(missed)...)
	}
	for _, f := range r.flatness() {
		if !f.met {
			out = append(out, f.what+": "+f.got)
		}
	}
	return strings.Join(out, "\n  ")
}

// Chart shows how near each route comes to the pod itself, a figure after the
// other, with the most Services.
func (r EastReport) Chart() plot.Chart {
	c := plot.Chart{
		Title: "How near each comes to the pod itself, figure by figure of the table, with the most Services",
		X:     plot.Axis{Label: "figure", Format: plot.Count},
		Y:     plot.Axis{Label: "part of the pod itself", Format: func(v float64) string { return fmt.Sprintf("%.2f", v) }},
	}
	for _, route := range []route{byKubeProxy, byNFTables, byEBPF} {
		s := plot.Series{Name: route.String(), Colour: [routes]int{byKubeProxy: 2, byNFTables: 3, byEBPF: 1}[route]}
		n := 0
		for _, row := range r.rows {
			if row.services == r.rows[len(r.rows)-1].services {
				n++
				s.Points = append(s.Points, plot.Point{X: float64(n), Y: row.ratio(route, direct).median})
			}
		}
		c.Series = append(c.Series, s)
	}
	return c
}
