package forwarding

import (
	"fmt"
	"math"
	"time"
)

// target is what fairlead has to reach.
type target struct {
	what, got string
	met       bool
}

// What is said of a target.
const (
	met       = "met"
	undecided = "undecided" // what was measured fits to both
	missed    = "missed"
)

func (t target) verdict() string {
	if t.met {
		return met
	}
	return missed
}

// reference is the number of Services that the targets are of.
const reference = 5000

// judge compares the results with the targets; those of one size are of the
// reference, or of the greatest below it.
func judge(results []Result) []target {
	if len(results) == 0 {
		return nil
	}
	at := results[0]
	for _, r := range results {
		if r.Services <= reference {
			at = r
		}
	}
	return append(at.targets(), growth(results)...)
}

func (r Result) targets() []target {
	k, f := r.KubeProxy, r.Fairlead
	of := fmt.Sprintf("%d Services: ", r.Services)
	load, cpu := quotient(float64(k.program()), float64(f.program())), quotient(float64(k.changes.cpu), float64(f.changes.cpu))
	p99 := at(f.changes.took, 99)
	out := []target{
		{of + "first load at least 20 times faster", fmt.Sprintf("%.3g times", load), load >= 20},
		{of + "an endpoint change for a hundredth of the CPU time", fmt.Sprintf("%.3g times less", cpu), cpu >= 100},
		{of + "p99 from API write to the new endpoint below 200 ms", fmt.Sprintf("%.0f ms", ms(p99)), p99 < 200*time.Millisecond},
		{of + "less memory than kube-proxy", fmt.Sprintf("%s and %s", mebibytes(float64(f.memory)), mebibytes(float64(k.memory))), f.memory < k.memory},
	}
	for _, path := range []struct {
		name         string
		ours, theirs []rate
	}{{"NodePort", f.nodePort, k.nodePort}, {"VIP", f.vip, k.vip}} {
		q := pairwise(path.ours, path.theirs)
		out = append(out, target{
			fmt.Sprintf("%sconnections/s through the %s at least 0.95 of kube-proxy's", of, path.name), fmt.Sprintf("%.2f", q), q >= 0.95,
		})
	}
	return out
}

// pairwise is the median of the ratios of runs that followed each other.
func pairwise(a, b []rate) float64 {
	pairs := make([]float64, min(len(a), len(b)))
	for i := range pairs {
		pairs[i] = quotient(a[i].perSecond, b[i].perSecond)
	}
	return median(pairs, func(v float64) float64 { return v })
}

// growth compares the smallest with the greatest number of Services: times grow
// no faster than it, from a hundred on, and connections are as fast as with one.
func growth(results []Result) []target {
	first, last := results[0], results[len(results)-1]
	for _, r := range results {
		if r.Services >= 100 {
			first = r
			break
		}
	}
	var out []target
	if first.Services < last.Services {
		for _, figure := range []struct {
			what string
			of   func(Measured) time.Duration
		}{
			{"first load", Measured.program},
			{"endpoint change", func(m Measured) time.Duration { return at(m.changes.took, 50) }},
			{"CPU time of a change", func(m Measured) time.Duration { return m.changes.cpu }},
		} {
			times := quotient(float64(last.Services), float64(first.Services))
			grew := quotient(float64(figure.of(last.Fairlead)), float64(figure.of(first.Fairlead)))
			out = append(out, target{
				fmt.Sprintf("%s grows no faster than the Services, %d to %d", figure.what, first.Services, last.Services),
				fmt.Sprintf("%.3g times for %.0f times", grew, times), grew <= times,
			})
		}
	}
	return append(out, flat(results)...)
}

// flat compares the rates of connections of all sizes, each as a part of what was
// possible at that moment.
func flat(results []Result) []target {
	least, most := math.Inf(1), 0.0
	for _, r := range results {
		part := pairwise(r.Fairlead.nodePort, r.Fairlead.pod)
		least, most = min(least, part), max(most, part)
	}
	return []target{{
		fmt.Sprintf("connections/s stay level, %d to %d Services", results[0].Services, results[len(results)-1].Services),
		fmt.Sprintf("%.0f-%.0f %% of those to the pod itself", 100*least, 100*most), least >= 0.85*most,
	}}
}
