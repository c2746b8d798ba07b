package report

import (
	"fmt"
	"strings"
)

// The size of a plot, in characters and in marks of its axis.
const (
	plotColumns = 60
	plotTicks   = 3
)

// Series is the values of a plot's line, which are not negative.
type Series struct {
	Title  string
	Values []float64
}

// Axis is where the values of a Plot are. It begins at 0, and ends at Until or as many steps
// behind it as the values need.
type Axis struct {
	Until, Step float64 // above 0
	Tick        func(value float64) string
}

// Plot draws each Series as a line of columns: a digit is how many values are there, and
// more than nine are a +.
func (a Axis) Plot(all []Series) string {
	width := 0
	for _, s := range all {
		for _, v := range s.Values {
			for a.Until < v {
				a.Until += a.Step
			}
		}
		width = max(width, len(s.Title))
	}
	var out strings.Builder
	for _, s := range all {
		fmt.Fprintf(&out, "%-*s |%s\n", width, s.Title, strings.TrimRight(a.marks(s.Values), " "))
	}
	out.WriteString(strings.Repeat(" ", width+2))
	for i := range plotTicks {
		fmt.Fprintf(&out, "%-*s", plotColumns/plotTicks, a.tick(i))
	}
	return out.String() + a.tick(plotTicks) + "\n"
}

func (a Axis) tick(i int) string { return a.Tick(a.Until * float64(i) / plotTicks) }

func (a Axis) marks(values []float64) string {
	counts := make([]int, plotColumns+1)
	for _, v := range values {
		counts[int(v*plotColumns/a.Until)]++
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
