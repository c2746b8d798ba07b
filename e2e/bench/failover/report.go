package failover

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/plot"
)

// Picture is the name of the plot's file.
const Picture = "bench-failover.svg"

// Summary is one scenario's runs.
type Summary struct {
	Scenario
	Runs     []Run
	P50, Max time.Duration // of the longest gaps
	Clean    time.Duration // the latest
	Failed   int
	Cut      int
	Requests int
}

// Summarise sums up the runs by scenario, in the scenarios' order.
func Summarise(runs []Run) (out []Summary) {
	for _, s := range Scenarios {
		sum := Summary{Scenario: s}
		var gaps []time.Duration
		for _, r := range runs {
			if r.Scenario != s.Name {
				continue
			}
			sum.Runs, gaps = append(sum.Runs, r), append(gaps, r.Gap)
			sum.Failed, sum.Cut, sum.Requests = sum.Failed+r.Failed, sum.Cut+r.Cut, sum.Requests+r.Requests
			sum.Clean = max(sum.Clean, r.Result.Clean)
		}
		if len(gaps) == 0 {
			continue
		}
		slices.Sort(gaps)
		sum.P50, sum.Max = gaps[(len(gaps)-1)/2], gaps[len(gaps)-1]
		out = append(out, sum)
	}
	return out
}

// Missed says which target was missed, "" if none.
func (s Summary) Missed() string {
	switch {
	case s.Most == 0 && s.Failed > 0:
		return fmt.Sprintf("%s: %d requests failed, none may", s.Title, s.Failed)
	case s.Most > 0 && s.Max > s.Most:
		return fmt.Sprintf("%s: the longest gap is %.2f s, it may be %.2f", s.Title, s.Max.Seconds(), s.Most.Seconds())
	case s.Scenario.Clean > 0 && s.Clean > s.Scenario.Clean:
		return fmt.Sprintf("%s: clean for good after %.2f s, it may be %.2f", s.Title, s.Clean.Seconds(), s.Scenario.Clean.Seconds())
	}
	return ""
}

// String is one line.
func (s Summary) String() string {
	return fmt.Sprintf("bench-failover: scenario=%s runs=%d gap_p50_s=%.2f gap_max_s=%.2f failed=%d cut=%d requests=%d clean_max_s=%.2f",
		s.Name, len(s.Runs), s.P50.Seconds(), s.Max.Seconds(), s.Failed, s.Cut, s.Requests, s.Clean.Seconds())
}

// Markdown is the table of the documentation.
func Markdown(sums []Summary) string {
	var b strings.Builder
	b.WriteString("| fault | runs | longest gap, median | longest gap, worst | failed requests | clean for good, at the latest |\n|---|---|---|---|---|---|\n")
	for _, s := range sums {
		failed := fmt.Sprintf("%d of %d", s.Failed, s.Requests)
		if s.Cut > 0 {
			failed += fmt.Sprintf(", %d cut", s.Cut)
		}
		fmt.Fprintf(&b, "| %s | %d | %.2f s | %.2f s | %s | %.2f s |\n", s.Title, len(s.Runs), s.P50.Seconds(), s.Max.Seconds(), failed, s.Clean.Seconds())
	}
	for _, s := range sums {
		notes := map[string]bool{}
		for _, r := range s.Runs {
			if r.Notes != "" && !notes[r.Notes] {
				notes[r.Notes] = true
				fmt.Fprintf(&b, "\n- %s: %s.", s.Title, r.Notes)
			}
		}
	}
	fmt.Fprintf(&b, "\n\n![Answered requests after a fault](%s)\n", Picture)
	return b.String()
}

// The plot's time: in steps of bin, from begins to ends.
const (
	bin    = 100 * time.Millisecond
	begins = -time.Second
	ends   = 4 * time.Second
)

// Chart shows how many of the requests that began at a time were answered, over
// all runs of each scenario.
func Chart(sums []Summary) plot.Chart {
	low, high := 0.0, 100.0
	c := plot.Chart{
		Title: "Requests answered, by when they began", X: plot.Axis{Label: "s after the fault"},
		Y: plot.Axis{Label: "%", Low: &low, High: &high},
	}
	for _, s := range sums {
		c.Series = append(c.Series, plot.Series{Name: s.Title, Points: answered(s.Runs), Steps: true, Bare: true})
	}
	return c
}

func answered(runs []Run) (out []plot.Point) {
	count := int((ends - begins) / bin)
	all, ok := make([]int, count), make([]int, count)
	for _, r := range runs {
		for _, q := range r.requests {
			i := int((q.At.Sub(r.at) - begins) / bin)
			if q.At.Sub(r.at) < begins || i >= count {
				continue
			}
			all[i]++
			if q.OK {
				ok[i]++
			}
		}
	}
	for i := range all {
		if all[i] > 0 {
			out = append(out, plot.Point{X: (begins + time.Duration(i)*bin).Seconds(), Y: 100 * float64(ok[i]) / float64(all[i])})
		}
	}
	return out
}
