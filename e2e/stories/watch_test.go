package stories

import (
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/probe"
)

// watched are probes of every path to the examples that go on through a fault:
// of each path one that makes new connections, and of each address from outside
// and inside one that keeps the connection that it has.
type watched struct {
	names   []string
	probers []*lab.Prober
}

func watch(t *testing.T, s demo.Service) *watched {
	t.Helper()
	return watchBy(t, s, visitor(t))
}

// visitor is the pod that asks from inside.
func visitor(t *testing.T) lab.Pod {
	t.Helper()
	return pods(t, "default", "run="+demo.Visitor, 1)[0]
}

// watchBy is watch without a question to the API server.
func watchBy(t *testing.T, s demo.Service, from lab.Pod) *watched {
	t.Helper()
	l := cluster(t)
	w := &watched{}
	start := func(p demo.Path, args ...string) {
		t.Helper()
		args = append(args, "-c=1", "-i=50ms", "-timeout=3s", "-family="+p.Family)
		prober, err := l.StartProbe(t.Context(), p.Host, p.Target, args...)
		if p.Host == "" {
			prober, err = l.StartProbeFromPod(t.Context(), from, p.Target, args...)
		}
		if err != nil {
			t.Fatal(err)
		}
		w.names, w.probers = append(w.names, p.Name+" "+strings.Join(args[:len(args)-4], " ")), append(w.probers, prober)
	}
	for _, p := range demo.Paths(l, s) {
		start(p)
		if p.Host != lab.Ext && p.Family == "" {
			start(p, "-keep")
		}
	}
	return w
}

// stop ends the probes and returns what came of them.
func (w *watched) stop(t *testing.T) []probe.Report {
	t.Helper()
	var reports []probe.Report
	for i, p := range w.probers {
		r, err := p.Stop()
		if err != nil {
			t.Fatalf("%s: %v", w.names[i], err)
		}
		reports = append(reports, r)
	}
	return reports
}

// wantUnharmed ends the probes and fails the story if any request failed.
func (w *watched) wantUnharmed(t *testing.T) {
	t.Helper()
	all, gap := 0, 0.0
	for i, r := range w.stop(t) {
		all, gap = all+r.Requests, max(gap, r.Gap)
		if r.Failures > 0 || r.Requests < 10 {
			t.Errorf("%s (%s): %d of %d requests failed %v, from %s to %s", w.names[i], r.Target, r.Failures, r.Requests, r.Reasons,
				r.FirstFailure.Format(time.StampMilli), r.LastFailure.Format(time.StampMilli))
		}
	}
	t.Logf("%d requests on %d connections and paths, the longest time without an answer on one was %.0f ms", all, len(w.names), gap)
}
