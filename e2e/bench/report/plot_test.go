package report

import (
	"fmt"
	"testing"
)

// The axis ends behind the largest value, titles are as wide as the longest, and a Series may
// have no value.
func TestPlot(t *testing.T) {
	a := Axis{Until: 1000, Step: 500, Tick: func(v float64) string { return fmt.Sprintf("%.0f/s", v) }}
	const want = "one     |1                                            2              1\n" +
		"another |\n" +
		"         0/s                 667/s               1333/s              2000/s\n"
	if got := a.Plot([]Series{{"one", []float64{0, 1500, 1510, 2000}}, {"another", nil}}); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
