package plot

import (
	"math"
	"slices"
	"strconv"
)

// scale turns values into places between from and to.
type scale struct {
	log       bool
	low, high float64
	from, to  float64
}

// scale chooses the range of an axis: for a logarithmic one the powers of ten
// around the values, else the steps around them.
func (a Axis) scale(values []float64) scale {
	for _, v := range []*float64{a.Low, a.High} {
		if v != nil {
			values = append(values, *v)
		}
	}
	values = slices.DeleteFunc(values, func(v float64) bool {
		return math.IsNaN(v) || math.IsInf(v, 0) || a.Log && v <= 0
	})
	s := scale{log: a.Log, low: 0, high: 1}
	if a.Log {
		s.low = 1
		s.high = 10
	}
	if len(values) > 0 {
		s.low, s.high = slices.Min(values), slices.Max(values)
	}
	if a.Log {
		s.low, s.high = math.Pow(10, math.Floor(tidy(math.Log10(s.low)))), math.Pow(10, math.Ceil(tidy(math.Log10(s.high))))
		if s.low == s.high {
			s.high *= 10
		}
		return s
	}
	if s.low == s.high {
		s.high = s.low + 1
	}
	step := s.step()
	s.low, s.high = math.Floor(tidy(s.low/step))*step, math.Ceil(tidy(s.high/step))*step
	return s
}

// tidy takes away what is left of a whole number by calculating in binary.
func tidy(v float64) float64 {
	if near := math.Round(v); math.Abs(v-near) < 1e-9 {
		return near
	}
	return v
}

func (s scale) shows(v float64) bool {
	return !math.IsNaN(v) && !math.IsInf(v, 0) && (!s.log || v > 0)
}

func (s scale) at(v float64) float64 {
	part := (v - s.low) / (s.high - s.low)
	if s.log {
		part = math.Log10(v/s.low) / math.Log10(s.high/s.low)
	}
	return s.from + part*(s.to-s.from)
}

// step is 1, 2 or 5 times a power of ten, so that there are four to ten steps.
func (s scale) step() float64 {
	size := (s.high - s.low) / 10
	power := math.Pow(10, math.Floor(math.Log10(size)))
	for _, times := range []float64{1, 2, 5} {
		if power*times >= size {
			return power * times
		}
	}
	return 10 * power
}

// ticks are the values that the axis names.
func (s scale) ticks() []float64 {
	var out []float64
	if s.log {
		for e := math.Round(math.Log10(s.low)); e <= math.Round(math.Log10(s.high)); e++ {
			out = append(out, math.Pow(10, e))
		}
		return out
	}
	step := s.step()
	for i := math.Round(s.low / step); i*step <= s.high+step/1e6; i++ {
		out = append(out, i*step)
	}
	return out
}

func (a Axis) format(v float64) string {
	if a.Format != nil {
		return a.Format(v)
	}
	return strconv.FormatFloat(v, 'g', 6, 64)
}

// Seconds is an Axis's Format of durations: "20 ms", "2 s".
func Seconds(v float64) string {
	short := func(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) }
	switch {
	case v == 0:
		return "0"
	case math.Abs(v) < 0.9995e-3:
		return short(v*1e6) + " µs"
	case math.Abs(v) < 0.9995:
		return short(v*1e3) + " ms"
	}
	return short(v) + " s"
}

// Count is an Axis's Format of whole numbers: "10,000".
func Count(v float64) string {
	digits := strconv.FormatFloat(math.Abs(v), 'f', 0, 64)
	out := ""
	for len(digits) > 3 {
		digits, out = digits[:len(digits)-3], ","+digits[len(digits)-3:]+out
	}
	if v < 0 {
		digits = "-" + digits
	}
	return digits + out
}
