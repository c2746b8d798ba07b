package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"golang.org/x/perf/benchmath"
	"golang.org/x/perf/benchunit"
)

// Figure is the median of N values, and the interval from Lo to Hi in which the
// median of all such values lies with a confidence of 95 %. Fewer than six values
// cannot give that confidence: their interval is from the smallest to the greatest.
type Figure struct {
	benchmath.Summary
	N int
}

// Median returns the Figure of some values: zero if there are none.
func Median(values []float64) Figure {
	if len(values) == 0 {
		return Figure{}
	}
	s := sample(values)
	out := Figure{benchmath.AssumeNothing.Summary(s, 0.95), len(values)}
	out.Lo, out.Hi = max(out.Lo, s.Values[0]), min(out.Hi, s.Values[len(values)-1])
	return out
}

func sample(values []float64) *benchmath.Sample {
	return benchmath.NewSample(slices.Clone(values), &benchmath.DefaultThresholds)
}

// Exact returns the Figure of a value that is not one of many.
func Exact(value float64) Figure { return Median([]float64{value}) }

// Over returns f divided by g, which was measured apart from it. The interval is as
// wide as those of both allow.
func (f Figure) Over(g Figure) Figure {
	if f.N == 0 || g.N == 0 {
		return Figure{}
	}
	return Figure{benchmath.Summary{Center: f.Center / g.Center, Lo: f.Lo / g.Hi, Hi: f.Hi / g.Lo}, max(f.N, g.N)}
}

// Cell shows f in its unit: "28.31ms ± 4%".
func (f Figure) Cell(unit string) string {
	if f.N == 0 {
		return ""
	}
	text := benchunit.Scale(f.Center, benchunit.ClassOf(unit)) + symbol(unit)
	if f.N > 1 {
		text += " ± " + f.PctRangeString()
	}
	return text
}

// symbol returns how a unit is written behind a number and its SI prefix.
func symbol(unit string) string {
	unit = strings.TrimSuffix(unit[strings.LastIndex(unit, "-")+1:], "/op")
	switch unit {
	case "sec":
		return "s"
	case "conn/s", "req/s":
		return "/s" // the row says what is counted
	}
	return unit
}

// Ratio shows f, which is a ratio, and its interval: "1.023 (0.953-1.145)".
func (f Figure) Ratio() string {
	switch f.N {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("%.4g", f.Center)
	}
	return fmt.Sprintf("%.4g (%.4g-%.4g)", f.Center, f.Lo, f.Hi)
}

// Comparison is how much better one way is than another.
type Comparison struct {
	Times Figure // above 1: the first is better
	test  benchmath.Comparison
}

// Apart compares what was measured one after the other: the ratio of the medians.
func (l *Lines) Apart(a, b, unit string) Comparison {
	return compare(l.Values(a, unit), l.Values(b, unit), unit, func(of, to []float64) Figure { return Median(of).Over(Median(to)) })
}

// InTurn compares what was measured in turns: the median of the ratios of the values
// that followed each other. What slows the machine for a while slows both.
func (l *Lines) InTurn(a, b, unit string) Comparison {
	return compare(l.Values(a, unit), l.Values(b, unit), unit, func(of, to []float64) Figure {
		ratios := make([]float64, min(len(of), len(to)))
		for i := range ratios {
			ratios[i] = of[i] / to[i]
		}
		return Median(ratios)
	})
}

func compare(a, b []float64, unit string, ratio func(of, to []float64) Figure) Comparison {
	if len(a) == 0 || len(b) == 0 {
		return Comparison{}
	}
	out := Comparison{test: benchmath.AssumeNothing.Compare(sample(a), sample(b))}
	if !gain(unit) {
		a, b = b, a // less is better
	}
	out.Times = ratio(a, b)
	return out
}

// Test shows the probability that the two are alike by the Mann-Whitney U test, and
// the number of values: "p=0.002 n=7". One value each cannot be tested.
func (c Comparison) Test() string {
	if c.test.N1 < 2 || c.test.N2 < 2 {
		return ""
	}
	return fmt.Sprintf("p=%.3f n=%d+%d", c.test.P, c.test.N1, c.test.N2)
}

// Verdict is what is said of a target.
type Verdict string

// The verdicts. The median decides whether a target is met. If it is not, the
// interval decides whether that is sure.
const (
	Met       Verdict = "met"
	Undecided Verdict = "undecided"
	Missed    Verdict = "missed"
)

func (f Figure) verdict(median, interval bool) Verdict {
	switch {
	case f.N == 0 || math.IsInf(f.Center, 0): // nothing was measured, or a ratio to nothing
		return Missed
	case median:
		return Met
	case interval:
		return Undecided
	}
	return Missed
}

// AtLeast, Above, AtMost and Below return the verdict on f and a limit.
func (f Figure) AtLeast(limit float64) Verdict { return f.verdict(f.Center >= limit, f.Hi >= limit) }
func (f Figure) Above(limit float64) Verdict   { return f.verdict(f.Center > limit, f.Hi > limit) }
func (f Figure) AtMost(limit float64) Verdict  { return f.verdict(f.Center <= limit, f.Lo <= limit) }
func (f Figure) Below(limit float64) Verdict   { return f.verdict(f.Center < limit, f.Lo < limit) }
