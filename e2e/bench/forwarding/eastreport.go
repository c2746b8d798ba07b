package forwarding

import (
	"fmt"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/plot"
)

// EastPicture is the file beside the document that an EastReport's Markdown shows.
const EastPicture = "bench-eastwest.svg"

// What eBPF has to reach on every row: the pod itself but for this, and more than
// kube-proxy.
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

// ratio is how much better one route is than another: the median of the runs'.
func (r eastRow) ratio(a, b route) float64 {
	return median(r.runs, func(v [routes]float64) float64 {
		if r.gain {
			return quotient(v[a], v[b])
		}
		return quotient(v[b], v[a])
	})
}

// missed names what eBPF did not reach.
func (r eastRow) missed() (out []string) {
	name := fmt.Sprintf("%d Services, %s, %s: ", r.services, r.place, r.what)
	if q := r.ratio(byEBPF, direct); q < eastLimit {
		out = append(out, fmt.Sprintf("%s%.3f of the pod itself", name, q))
	}
	if q := r.ratio(byEBPF, byKubeProxy); q <= 1 {
		out = append(out, fmt.Sprintf("%s%.3f of kube-proxy", name, q))
	}
	return out
}

func (r eastRow) cells() []string {
	out := []string{plot.Count(float64(r.services)), r.place.String(), r.what}
	for route := range routes {
		out = append(out, r.format(median(r.runs, func(v [routes]float64) float64 { return v[route] })))
	}
	verdict := "met"
	if len(r.missed()) > 0 {
		verdict = "missed"
	}
	for _, pair := range [][2]route{{byNFTables, direct}, {byEBPF, direct}, {byEBPF, bare}, {byEBPF, byKubeProxy}} {
		out = append(out, fmt.Sprintf("%.3f", r.ratio(pair[0], pair[1])))
	}
	return append(out, verdict)
}

var eastColumns = []string{"Services", "pod on", "figure", "no proxy", "kube-proxy", "pod itself", "fairlead nftables", "fairlead eBPF",
	"nftables : pod", "eBPF : pod", "eBPF : no proxy", "eBPF : kube-proxy", ""}

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
	fmt.Fprintf(&out, "\ntargets, on each row: eBPF at least %.2f of the pod itself, and above kube-proxy\n%s", eastLimit, r.flat())
	return out.String()
}

func (r EastReport) how() string {
	return fmt.Sprintf("the five took turns of %s, %d times; figures are medians of the turns, ratios medians of the ratios in one round; %d cores, Linux %s; %s in all",
		r.bench.Length/turns, r.bench.Runs*turns, runtime.NumCPU(), kernel(), r.Took.Round(time.Second))
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
				q := quotient(other.ratio(byEBPF, direct), one.ratio(byEBPF, direct))
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
	met := 0
	flat := r.flatness()
	for _, f := range flat {
		if f.met {
			met++
		}
	}
	if len(flat) > 0 {
		fmt.Fprintf(&out, "\nLevel to %d Services, within 5 %%: %d of %d figures.\n", r.rows[len(r.rows)-1].services, met, len(flat))
	}
	return out.String()
}

// Missed names the targets that were not met.
func (r EastReport) Missed() string {
	var out []string
	for _, row := range r.rows {
		out = append(out, row.missed()...)
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
				s.Points = append(s.Points, plot.Point{X: float64(n), Y: row.ratio(route, direct)})
			}
		}
		c.Series = append(c.Series, s)
	}
	return c
}
