package report

import (
	"math"
	"testing"

	"golang.org/x/perf/benchmath"
)

func upTo(n int) (out []float64) {
	for i := range n {
		out = append(out, float64(n-i))
	}
	return out
}

// TestMedian: the interval is that of the order statistics of a binomial; of fewer
// than six values it is all of them.
func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values         []float64
		median, lo, hi float64
	}{
		{nil, 0, 0, 0},
		{upTo(1), 1, 1, 1},
		{upTo(4), 2.5, 1, 4},
		{upTo(5), 3, 1, 5},
		{upTo(6), 3.5, 1, 6},
		{upTo(7), 4, 1, 7},
		{upTo(25), 13, 8, 18},
		{upTo(50), 25.5, 18, 32},
		{[]float64{3, 1, 2}, 2, 1, 3},
	} {
		f := Median(c.values)
		if f.Center != c.median || f.Lo != c.lo || f.Hi != c.hi || f.N != len(c.values) {
			t.Errorf("of %v: %+v, want %v (%v-%v)", c.values, f, c.median, c.lo, c.hi)
		}
	}
}

func TestCell(t *testing.T) {
	for _, c := range []struct {
		f    Figure
		unit string
		want string
	}{
		{Exact(0.0283), "p99-sec", "28.30ms"},
		{Exact(64.2e-6), "cpu-sec/op", "64.20µs"},
		{Exact(149 << 20), "B", "149.0MiB"},
		{Exact(34457), "conn/s", "34.46k/s"},
		{Exact(11.3e9), "bit/s", "11.30Gbit/s"},
		{Exact(0), "sec", "0.000s"},
		{Median([]float64{9, 10, 12}), "sec", "10.00s ± 20%"},
		{Figure{}, "sec", ""},
	} {
		if got := c.f.Cell(c.unit); got != c.want {
			t.Errorf("%v %s: %q, want %q", c.f, c.unit, got, c.want)
		}
	}
}

// compared is two ways while the machine gets faster: in each turn a has 5/4 of b.
func compared() *Lines {
	l := &Lines{}
	for _, pace := range []float64{1000, 2000, 4000, 10000} {
		l.Add("a", 1, Of(1.25*pace, "req/s"), Of(0.8/pace, "sec"))
		l.Add("b", 1, Of(pace, "req/s"), Of(1/pace, "sec"))
	}
	l.Add("once", 1, Of(2500, "req/s"))
	return l
}

// TestCompare: above one is better whatever the unit, and what was measured in turns
// is compared turn by turn.
func TestCompare(t *testing.T) {
	l := compared()
	for _, c := range []struct {
		what string
		got  Comparison
		want string
	}{
		{"rates in turn", l.InTurn("a", "b", "req/s"), "1.25 (1.25-1.25)"},
		{"times in turn", l.InTurn("a", "b", "sec"), "1.25 (1.25-1.25)"},
		{"the other way round", l.InTurn("b", "a", "sec"), "0.8 (0.8-0.8)"},
		{"rates apart", l.Apart("a", "b", "req/s"), "1.25 (0.125-12.5)"},
		{"times apart", l.Apart("a", "b", "sec"), "1.25 (0.125-12.5)"},
		{"one and many", l.Apart("once", "b", "req/s"), "0.8333 (0.25-2.5)"},
		{"what is not there", l.Apart("a", "c", "sec"), ""},
	} {
		if got := c.got.Times.Ratio(); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

// TestMannWhitney: probabilities of the U test, as its tables have them: 2/252 of all
// orders of five and five part them as these.
func TestMannWhitney(t *testing.T) {
	l := &Lines{}
	for i := range 5 {
		l.Add("a", 1, Of(float64(i), "sec"))
		l.Add("b", 1, Of(float64(10+i), "sec"))
	}
	l.Add("once", 1, Of(1, "sec"))
	for _, c := range []struct{ a, b, want string }{
		{"a", "b", "p=0.008 n=5+5"}, {"a", "a", "p=1.000 n=5+5"}, {"a", "once", ""}, {"a", "none", ""},
	} {
		if got := l.Apart(c.a, c.b, "sec").Test(); got != c.want {
			t.Errorf("%s and %s: %q, want %q", c.a, c.b, got, c.want)
		}
	}
}

func TestVerdict(t *testing.T) {
	of := func(lo, median, hi float64) Figure {
		return Figure{benchmath.Summary{Center: median, Lo: lo, Hi: hi}, 9}
	}
	for _, c := range []struct {
		f                           Figure
		atLeast, above, atMost, low Verdict // of 1
	}{
		{of(1.1, 1.2, 1.3), Met, Met, Missed, Missed},
		{of(0.9, 1.1, 1.2), Met, Met, Undecided, Undecided},
		{of(1, 1, 1), Met, Missed, Met, Missed},
		{of(0.8, 0.9, 1.1), Undecided, Undecided, Met, Met},
		{of(0.7, 0.8, 0.9), Missed, Missed, Met, Met},
		{of(math.Inf(1), math.Inf(1), math.Inf(1)), Missed, Missed, Missed, Missed},
		{of(math.NaN(), math.NaN(), math.NaN()), Missed, Missed, Missed, Missed},
		{Figure{}, Missed, Missed, Missed, Missed},
		{Exact(1).Over(Figure{}), Missed, Missed, Missed, Missed},
	} {
		got := [4]Verdict{c.f.AtLeast(1), c.f.Above(1), c.f.AtMost(1), c.f.Below(1)}
		if want := [4]Verdict{c.atLeast, c.above, c.atMost, c.low}; got != want {
			t.Errorf("%s: %v, want %v", c.f.Ratio(), got, want)
		}
	}
}
