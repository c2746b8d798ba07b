package failover

import (
	"fmt"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

// The plot has a line for each scenario. It ends at the longest gap that a node without
// power may leave, or later if a gap was longer.
const (
	plotUntil = 300 * time.Millisecond
	plotStep  = 300 * time.Millisecond
)

// plot draws the longest gap of each run.
func plot(sums []Summary) string {
	var all []report.Series
	for _, s := range sums {
		line := report.Series{Title: s.Title}
		for _, r := range s.Runs {
			line.Values = append(line.Values, float64(r.Gap))
		}
		all = append(all, line)
	}
	return report.Axis{
		Until: float64(plotUntil), Step: float64(plotStep),
		Tick: func(v float64) string { return fmt.Sprintf("%.2f s", time.Duration(v).Seconds()) },
	}.Plot(all)
}
