package monitoring

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
)

// troubles are what alerts and reasons are for: a pool that overlaps another, an
// Announcement whose aggregate is wider than its pool, a Service that asks for a
// pool that there is not, and two that BGP has to do with, one of them without an
// endpoint.
const troubles = `apiVersion: fairlead.io/v1alpha1
kind: AddressPool
metadata: {name: overlaps}
spec: {addresses: [198.18.0.250-198.18.0.252]}
---
apiVersion: fairlead.io/v1alpha1
kind: Announcement
metadata: {name: wide}
spec: {poolSelector: {matchLabels: {announce: bgp}}, bgp: {aggregationLength: 8}}
---
apiVersion: v1
kind: Service
metadata: {name: nowhere, annotations: {fairlead.io/pool: nowhere}}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: web8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: routed, annotations: {fairlead.io/pool: routed}}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: web8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: empty, annotations: {fairlead.io/pool: routed}}
spec: {type: LoadBalancer, selector: {app: nobody}, ports: [{port: 80}]}
`

// unseen are the metrics that have no value while all is well.
var unseen = []string{"fairlead_sysctl_wrong"}

// TestMonitoring: a Prometheus that finds the pods by their annotations reads every
// metric of docs/metrics.md; no alert is active while all is well, those of troubles
// are when they come; and every query of every dashboard has an answer.
func TestMonitoring(t *testing.T) {
	if os.Getenv("FAIRLEAD_E2E") != "1" {
		t.Skip("FAIRLEAD_E2E is not 1")
	}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l := monitored(ctx, t)
	w := &watch{t: t, lab: l, prometheus: New(), files: filepath.Join(l.Root(), "charts", "fairlead", "files")}
	must(t, l.StartPrometheus(ctx, filepath.Join(w.files, "alerts.yaml")))
	t.Cleanup(func() { must(t, l.StopPrometheus(context.Background())) })
	w.targets(ctx)
	deploy(ctx, t, l)
	w.quiet(ctx)
	w.disturb(ctx)
	w.dashboards(ctx)
	w.alerts(ctx)
	w.families(ctx)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// monitored is a lab with fairlead whose agents' metrics can be reached, and a
// router. One that was up stays up.
func monitored(ctx context.Context, t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.OpenAlone(ctx)
	if err != nil {
		l, err = lab.Up(ctx, lab.Options{Fairlead: true})
		must(t, err)
		t.Cleanup(func() { must(t, l.Down(context.Background())) })
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("state at the failure: ", l.Collect(context.Background()))
		}
	})
	must(t, l.InstallFairlead(ctx))
	_, err = l.StartBGP(ctx, "frr")
	must(t, err)
	kubectl(ctx, t, l, "apply", "-f", filepath.Join(l.Root(), "examples", "bgp.yaml"))
	_, err = l.Helm(ctx, "upgrade", "fairlead", filepath.Join(l.Root(), "charts", "fairlead"), "--namespace", lab.FairleadNamespace,
		"--reset-then-reuse-values", "--set", "metrics.agent.address=0.0.0.0")
	must(t, err)
	kubectl(ctx, t, l, "-n", lab.FairleadNamespace, "rollout", "status", "daemonset/fairlead-agent", "--timeout=3m")
	return l
}

func kubectl(ctx context.Context, t *testing.T, l *lab.Lab, args ...string) string {
	t.Helper()
	out, err := l.Kubectl(ctx, args...)
	must(t, err)
	return string(out)
}

// deploy has the pools and the web servers of the examples.
func deploy(ctx context.Context, t *testing.T, l *lab.Lab) {
	t.Helper()
	_, err := demo.Deploy(ctx, l, l.Root())
	must(t, err)
	t.Cleanup(func() {
		for _, file := range []string{"web.yaml", "bgp.yaml", "pool.yaml"} {
			remove(t, l, "-f", filepath.Join(l.Root(), "examples", file))
		}
		remove(t, l, "pod", demo.Visitor, "--grace-period=1")
	})
}

// remove deletes, and does not wait for a node that may be without power.
func remove(t *testing.T, l *lab.Lab, args ...string) {
	t.Helper()
	if _, err := l.Kubectl(context.Background(), append([]string{"delete", "--ignore-not-found", "--wait=false"}, args...)...); err != nil {
		t.Error(err)
	}
}

// watch asks a Prometheus about a lab.
type watch struct {
	t          *testing.T
	lab        *lab.Lab
	prometheus *Prometheus
	files      string // of the chart
}

// until waits for a check to have no objection.
func (w *watch) until(ctx context.Context, what string, check func(context.Context) error) {
	w.t.Helper()
	began := time.Now()
	must(w.t, lab.Until(ctx, 4*time.Minute, what, check))
	w.t.Logf("%s: after %.0f s", what, time.Since(began).Seconds())
}

// targets waits until every agent and both controllers are read.
func (w *watch) targets(ctx context.Context) {
	w.until(ctx, "all agents and controllers are read", func(ctx context.Context) error {
		if err := w.lab.UpdateTargets(ctx); err != nil {
			return err
		}
		found, err := w.prometheus.Query(ctx, "up == 1")
		if want := len(w.lab.Nodes()) + 2; err == nil && len(found) != want {
			err = fmt.Errorf("%d of %d are: %v", len(found), want, found)
		}
		return err
	})
}

// active lists the alerts that fire or are about to.
func (w *watch) active(ctx context.Context) ([]string, error) {
	found, err := w.prometheus.Query(ctx, "group by (alertname) (ALERTS)")
	var names []string
	for _, s := range found {
		names = append(names, s.Metric["alertname"])
	}
	slices.Sort(names)
	return names, err
}

// quiet waits until no alert is active: all is well.
func (w *watch) quiet(ctx context.Context) {
	w.until(ctx, "no alert is active while all is well", func(ctx context.Context) error {
		names, err := w.active(ctx)
		if len(names) > 0 {
			err = errors.Join(err, fmt.Errorf("active: %v", names))
		}
		return err
	})
}

// disturb makes something to be seen: troubles, pods that come and go, and a node
// without power; and waits until their alerts are active.
func (w *watch) disturb(ctx context.Context) {
	file := filepath.Join(w.t.TempDir(), "troubles.yaml")
	must(w.t, os.WriteFile(file, []byte(troubles), 0o600))
	kubectl(ctx, w.t, w.lab, "apply", "-f", file)
	w.t.Cleanup(func() { remove(w.t, w.lab, "-f", file) })
	kubectl(ctx, w.t, w.lab, "scale", "deployment/web", "--replicas=4")
	nodes := w.lab.Nodes()
	victim := nodes[len(nodes)-1]
	must(w.t, w.lab.StopNode(ctx, victim))
	want := []string{"FairleadAgentDown", "FairleadConfigRefused", "FairleadServiceWithoutAddress"}
	w.until(ctx, strings.Join(want, ", ")+" are active", func(ctx context.Context) error {
		names, err := w.active(ctx)
		for _, name := range want {
			if !slices.Contains(names, name) {
				return errors.Join(err, fmt.Errorf("%s is not, but %v", name, names))
			}
		}
		return err
	})
	must(w.t, w.lab.StartNode(ctx, victim))
	kubectl(ctx, w.t, w.lab, "scale", "deployment/web", "--replicas=6")
	w.targets(ctx)
	// What was refused once is told once: the controller that acts now may be
	// another than the one that did.
	kubectl(ctx, w.t, w.lab, "delete", "service", "nowhere")
	kubectl(ctx, w.t, w.lab, "apply", "-f", file)
}

// dashboards waits until every query of every panel has an answer.
func (w *watch) dashboards(ctx context.Context) {
	all, err := Dashboards(filepath.Join(w.files, "dashboards"), "5m")
	must(w.t, err)
	answers := map[Question]int{}
	err = lab.Until(ctx, 2*time.Minute, "an answer to every query", func(ctx context.Context) error {
		for _, q := range all {
			if answers[q] > 0 {
				continue
			}
			found, err := w.prometheus.Query(ctx, q.Expr)
			if err == nil && len(found) == 0 {
				err = fmt.Errorf("%s: %s has none", q.At, q.Expr)
			}
			if err != nil {
				return err
			}
			answers[q] = len(found)
		}
		return nil
	})
	for _, q := range all {
		w.t.Logf("%3d series  %-50s %s", answers[q], q.At, q.Expr)
	}
	must(w.t, err)
	w.t.Logf("%d queries of dashboards have an answer", len(all))
}

// alerts waits until all that the alerts are about is there, and asks for the alerts
// themselves.
func (w *watch) alerts(ctx context.Context) {
	all, err := Alerts(filepath.Join(w.files, "alerts.yaml"))
	must(w.t, err)
	series := map[string]int{}
	err = lab.Until(ctx, 2*time.Minute, "what the alerts are about", func(ctx context.Context) error {
		for _, q := range all {
			for _, s := range q.Selectors() {
				found, err := w.prometheus.Query(ctx, s)
				if err == nil && len(found) == 0 && !slices.Contains(unseen, s) {
					err = fmt.Errorf("%s is about %s, which is not there", q.At, s)
				}
				if err != nil {
					return err
				}
				series[s] = len(found)
			}
		}
		return nil
	})
	for _, q := range all {
		for _, s := range q.Selectors() {
			w.t.Logf("%3d series  %-30s %s", series[s], q.At, s)
		}
		if _, err := w.prometheus.Query(ctx, q.Expr); err != nil {
			w.t.Errorf("%s: %v", q.At, err)
		}
	}
	must(w.t, err)
	names, err := w.active(ctx)
	must(w.t, err)
	w.t.Logf("%d alerts can be asked; active are %v", len(all), names)
}

// families compares what was read with docs/metrics.md.
func (w *watch) families(ctx context.Context) {
	page, err := os.ReadFile(filepath.Join(w.lab.Root(), "docs", "metrics.md"))
	must(w.t, err)
	want := Documented(string(page))
	got, err := w.prometheus.Families(ctx)
	must(w.t, err)
	for name, kind := range got {
		if strings.HasPrefix(name, "fairlead_") && want[name] != kind {
			w.t.Errorf("%s is a %s; docs/metrics.md says %q", name, kind, want[name])
		}
	}
	for name := range want {
		if got[name] == "" && !slices.Contains(unseen, name) {
			w.t.Errorf("%s of docs/metrics.md was not read", name)
		}
	}
	w.t.Logf("%d metrics of docs/metrics.md, all read but %v", len(want), unseen)
}
