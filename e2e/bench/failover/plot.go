package failover

import (
	"fmt"
	"strings"
	"time"
)

// The plot has a line of columns for each scenario. It ends at the longest gap that a node
// without power may leave, or later if a gap was longer.
const (
	plotColumns = 60
	plotTicks   = 3
	plotUntil   = 300 * time.Millisecond
	plotStep    = 300 * time.Millisecond
)

// plot draws the longest gap of each run: a digit is how many runs had it.
func plot(sums []Summary) string {
	until, width := plotUntil, 0
	for _, s := range sums {
		for until < s.Worst {
			until += plotStep
		}
		width = max(width, len(s.Title))
	}
	var out strings.Builder
	for _, s := range sums {
		fmt.Fprintf(&out, "%-*s |%s\n", width, s.Title, strings.TrimRight(marks(s.Runs, until), " "))
	}
	out.WriteString(strings.Repeat(" ", width+2))
	for i := range plotTicks {
		fmt.Fprintf(&out, "%-*s", plotColumns/plotTicks, tick(until, i))
	}
	return out.String() + tick(until, plotTicks) + "\n"
}

func tick(until time.Duration, i int) string {
	return fmt.Sprintf("%.2f s", until.Seconds()*float64(i)/plotTicks)
}

// marks is the line of the runs of a scenario. More than nine in a column are a +.
func marks(runs []Run, until time.Duration) string {
	counts := make([]int, plotColumns+1)
	for _, r := range runs {
		counts[int(r.Gap*plotColumns/until)]++
	}
	var line strings.Builder
	for _, n := range counts {
		switch {
		case n == 0:
			line.WriteByte(' ')
		case n > 9:
			line.WriteByte('+')
		default:
			fmt.Fprint(&line, n)
		}
	}
	return line.String()
}
