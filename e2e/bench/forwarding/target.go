package forwarding

import (
	"fmt"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

// reference is the number of Services that the targets are of.
const reference = 5000

// judge compares the lines of some numbers of Services, growing, with the targets.
// Those of one number are of the reference, or of the greatest below it.
func judge(l *report.Lines, sizes []int) []report.Target {
	if len(sizes) == 0 {
		return nil
	}
	at := sizes[0]
	for _, n := range sizes {
		if n <= reference {
			at = n
		}
	}
	return append(append(targets(l, at), growth(l, sizes)...), level(l, sizes))
}

func targets(l *report.Lines, services int) []report.Target {
	of := fmt.Sprintf("%d Services: ", services)
	load, cpu, less := programming.better(l, services).Times, changeCPU.better(l, services).Times, memory.better(l, services).Times
	p99 := changeP99.median(l, services)
	out := []report.Target{
		{What: of + "first load at least 20 times faster", Got: load.Ratio() + " times", Verdict: load.AtLeast(20)},
		{What: of + "an endpoint change for a hundredth of the CPU time", Got: cpu.Ratio() + " times less", Verdict: cpu.AtLeast(100)},
		{What: of + "p99 from API write to the new endpoint below 200 ms", Got: p99.Cell(changeP99.unit), Verdict: p99.Below(0.2)},
		{What: of + "less memory than kube-proxy", Got: less.Ratio() + " times less", Verdict: less.Above(1)},
	}
	for _, f := range []figure{nodePorts, vips} {
		q := f.better(l, services).Times
		out = append(out, report.Target{What: of + f.what + " at least 0.95 of kube-proxy's", Got: q.Ratio(), Verdict: q.AtLeast(0.95)})
	}
	return out
}

// growth compares the smallest with the greatest number of Services: times grow no
// faster than it, from a hundred on.
func growth(l *report.Lines, sizes []int) (out []report.Target) {
	first, last := sizes[0], sizes[len(sizes)-1]
	for _, n := range sizes {
		if n >= 100 {
			first = n
			break
		}
	}
	if first >= last {
		return nil
	}
	for _, f := range []figure{programming, changing, changeCPU} {
		grew, times := f.median(l, last).Over(f.median(l, first)), float64(last)/float64(first)
		out = append(out, report.Target{
			What: fmt.Sprintf("%s grows no faster than the Services, %d to %d", f.what, first, last),
			Got:  fmt.Sprintf("%s times for %.4g times", grew.Ratio(), times), Verdict: grew.AtMost(times),
		})
	}
	return out
}

// level compares the rates of connections of all sizes, each as a part of what was
// possible at that moment.
func level(l *report.Lines, sizes []int) report.Target {
	var least, most report.Figure
	for i, n := range sizes {
		part := l.InTurn(nodePorts.of(n, "fairlead"), pods.of(n, "fairlead"), nodePorts.unit).Times
		if i == 0 || part.Center < least.Center {
			least = part
		}
		if i == 0 || part.Center > most.Center {
			most = part
		}
	}
	spread := least.Over(most)
	return report.Target{
		What:    fmt.Sprintf("connections/s stay level, %d to %d Services: the worst at least 0.85 of the best", sizes[0], sizes[len(sizes)-1]),
		Got:     fmt.Sprintf("%s; %.0f-%.0f %% of those to the pod itself", spread.Ratio(), 100*least.Center, 100*most.Center),
		Verdict: spread.AtLeast(0.85),
	}
}
