package size

import (
	"fmt"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

// The targets, for a cluster of target nodes.
const (
	target      = 1000
	mostWrites  = 20.0   // objects a second at rest
	mostWatched = 2048.0 // bytes a second for each agent at rest
)

// perSecond returns n divided by the time that the row took.
func (r Row) perSecond(n float64) float64 { return n / r.Took.Seconds() }

// Written is how many objects fairlead wrote a second. At rest the renewals that agents
// make are added.
func (r Row) written(agents int) float64 {
	out := r.perSecond(float64(r.Agents + r.Controller))
	if r.Name == "at rest" {
		out += Renewals(agents)
	}
	return out
}

// scaled is the row at rest in a cluster of target nodes, by arithmetic: the Leases of
// the controllers stay, everything else grows with the nodes.
func (r Row) scaled(agents int) (written, nodes, other float64) {
	factor := float64(target) / float64(agents)
	written = r.perSecond(float64(r.Agents))*factor + r.perSecond(float64(r.Controller)) + Renewals(target)
	return written, r.perSecond(r.WatchedNodes) * factor, r.perSecond(r.Other)
}

// Report is the table.
func (r Result) Report() report.Report {
	t := report.Table{Columns: []string{"what", "time", "objects written", "objects/s", "watch B/s for each agent", "of that Nodes and their roster", "API server CPU"}}
	for _, row := range r.Rows {
		t.Rows = append(t.Rows, []string{
			row.Name, row.Took.Round(time.Second).String(), fmt.Sprintf("%d by agents, %d by the controller", row.Agents, row.Controller), fmt.Sprintf("%.1f", row.written(r.Agents)),
			fmt.Sprintf("%.0f", row.perSecond(row.WatchedNodes+row.Other)), fmt.Sprintf("%.0f", row.perSecond(row.WatchedNodes)), fmt.Sprintf("%.2f cores", row.CPU.Seconds()/row.Took.Seconds()),
		})
	}
	written, nodes, other := r.Rows[0].scaled(r.Agents)
	t.Rows = append(t.Rows, []string{fmt.Sprintf("at rest, %d nodes, by arithmetic", target), "", "", fmt.Sprintf("%.1f", written), fmt.Sprintf("%.0f", nodes+other), fmt.Sprintf("%.0f", nodes), ""})
	verdict := func(ok bool) report.Verdict {
		if ok {
			return report.Met
		}
		return report.Missed
	}
	return report.Report{
		Name: "bench-size", Table: t,
		How: fmt.Sprintf("%d simulated agents, %d Services, a kube-apiserver and etcd; %s", r.Agents, r.Services, report.Machine()),
		Targets: []report.Target{
			{What: fmt.Sprintf("fewer than %.0f objects written a second at rest, %d nodes", mostWrites, target), Got: fmt.Sprintf("%.1f", written), Verdict: verdict(written < mostWrites)},
			{What: fmt.Sprintf("less than %.0f B/s of watches for each agent at rest, %d nodes", mostWatched, target), Got: fmt.Sprintf("%.0f B/s", nodes+other), Verdict: verdict(nodes+other < mostWatched)},
		},
		Notes: []string{
			fmt.Sprintf("An agent that starts reads %.1f MB: all Services, and the endpoints of %d", float64(r.Start.Bytes)/1e6, r.Agents),
			fmt.Sprintf("At rest, %.2f objects/s are renewals, by arithmetic: each agent writes once in 10 to 15 minutes", Renewals(r.Agents)),
			fmt.Sprintf("Kubelets write each Node every %s, as they do when nothing changed. Agents follow the roster of the Nodes, which does not change then", heartbeatEvery),
		},
	}
}

// Lines returns what was measured for benchstat.
func (r Result) Lines() *report.Lines {
	out := &report.Lines{}
	for i, row := range r.Rows {
		name := fmt.Sprintf("Size/what=%s/agents=%d", []string{"rest", "lost", "update"}[i], r.Agents)
		out.Add(name, 1, report.Of(row.written(r.Agents), "writes-each-sec"), report.Of(row.perSecond(row.WatchedNodes+row.Other), "watch-B-each-sec"),
			report.Of(row.perSecond(row.Other), "watch-B-without-nodes-each-sec"), report.Of(row.CPU.Seconds()/row.Took.Seconds(), "apiserver-cores"))
	}
	return out
}
