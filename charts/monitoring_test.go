package charts_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

const (
	alertsFile = chart + "/files/alerts.yaml"
	alertTests = "testdata/alerts.test.yaml"
	runbooks   = "../docs/runbooks"
	runbookURL = "https://github.com/fairlead/fairlead/blob/main/docs/runbooks/"
)

// promtool runs Prometheus' own checker.
func promtool(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil && os.Geteuid() != 0 && os.Getenv("REQUIRE_ROOT") != "1" {
		t.Skip("promtool is missing, and only root can install it")
	}
	if err != nil {
		t.Fatal("promtool is missing: make packages installs it")
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = yaml.UnmarshalStrict(data, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// alerts returns the rules of the chart by name.
func alerts(t *testing.T) map[string]monitoringv1.Rule {
	t.Helper()
	var spec monitoringv1.PrometheusRuleSpec
	readYAML(t, alertsFile, &spec)
	out := map[string]monitoringv1.Rule{}
	for _, g := range spec.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || out[r.Alert].Alert != "" {
				t.Errorf("%s: %q has no name of its own", alertsFile, r.Alert)
			}
			out[r.Alert] = r
		}
	}
	return out
}

// TestAlerts: promtool sees every alert fire, and not fire.
func TestAlerts(t *testing.T) {
	promtool(t, "check", "rules", alertsFile)
	promtool(t, "test", "rules", alertTests)
	var file struct {
		Tests []struct {
			Name    string
			Queries []struct {
				Expr    string
				Samples []any `json:"exp_samples"`
			} `json:"promql_expr_test"`
		}
	}
	data, err := os.ReadFile(alertTests)
	if err == nil {
		err = yaml.Unmarshal(data, &file)
	}
	if err != nil {
		t.Fatal(err)
	}
	fires, not := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		name, _, _ := strings.Cut(test.Name, ":")
		for _, q := range test.Queries {
			if !strings.Contains(q.Expr, `{alertname="`+name+`"`) {
				t.Errorf("%s asks for %s", test.Name, q.Expr)
			}
			if len(q.Samples) > 0 {
				fires[name] = true
			} else {
				not[name] = true
			}
		}
	}
	for name := range alerts(t) {
		if !fires[name] || !not[name] {
			t.Errorf("%s: a test that it fires: %v, and one that it does not: %v", name, fires[name], not[name])
		}
	}
}

// TestRunbooks: every alert has its page, every page its alert, and the list of
// them has all.
func TestRunbooks(t *testing.T) {
	list, err := os.ReadFile(filepath.Join(runbooks, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := alerts(t)
	for name, r := range all {
		if want := runbookURL + name + ".md"; r.Annotations["runbook_url"] != want {
			t.Errorf("%s has runbook_url %q, want %q", name, r.Annotations["runbook_url"], want)
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || !slices.Contains([]string{"warning", "critical"}, r.Labels["severity"]) {
			t.Errorf("%s: labels %v, annotations %v", name, r.Labels, r.Annotations)
		}
		page, err := os.ReadFile(filepath.Join(runbooks, name+".md"))
		if err != nil {
			t.Errorf("%s has no page: %v", name, err)
		}
		for _, want := range []string{"# " + name + "\n", "**What it means.**", "**What users see.**", "**Look.**", "**Do.**"} {
			if !strings.Contains(string(page), want) {
				t.Errorf("the page of %s lacks %q", name, want)
			}
		}
		if want := "| [" + name + "](" + name + ".md) | " + r.Labels["severity"] + " |"; !strings.Contains(string(list), want) {
			t.Errorf("%s/README.md has no line %q", runbooks, want)
		}
	}
	pages, err := filepath.Glob(filepath.Join(runbooks, "Fairlead*.md"))
	if err != nil || len(pages) != len(all) {
		t.Errorf("%d pages for %d alerts: %v", len(pages), len(all), err)
	}
}

// dashboard is what the tests read of one.
type dashboard struct {
	Title, UID string
	Panels     []struct {
		Type, Title string
		Datasource  struct{ UID string }
		Targets     []struct{ Expr string }
		GridPos     struct{ X, Y, W, H int }
	}
	Templating struct{ List []struct{ Name, Type string } }
}

func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob(chart + "/files/dashboards/*.json")
	if err != nil || len(files) != 6 {
		t.Fatalf("%d dashboards, want 6: %v", len(files), err)
	}
	out := map[string]dashboard{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(data, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out[strings.TrimSuffix(filepath.Base(file), ".json")] = d
	}
	return out
}

// TestDashboards: each has a name of its own, asks the data source that is chosen,
// and what it asks is PromQL; no two panels overlap.
func TestDashboards(t *testing.T) {
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: queries\n    rules:\n")
	for name, d := range dashboards(t) {
		if d.UID != "fairlead-"+name || !strings.HasPrefix(d.Title, "fairlead / ") {
			t.Errorf("%s has the title %q and the UID %q", name, d.Title, d.UID)
		}
		if vars := d.Templating.List; len(vars) != 1 || vars[0].Name != "datasource" || vars[0].Type != "datasource" {
			t.Errorf("%s has the variables %v", name, vars)
		}
		taken := map[[2]int]string{}
		for _, p := range d.Panels {
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
						t.Errorf("%s: %q lies over %q at %d,%d", name, p.Title, other, x, y)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
			if p.Type != "row" && (len(p.Targets) == 0 || p.Datasource.UID != "${datasource}") {
				t.Errorf("%s: %q asks %q of %q", name, p.Title, p.Targets, p.Datasource.UID)
			}
			for _, q := range p.Targets {
				expr, err := json.Marshal(strings.ReplaceAll(q.Expr, "$__rate_interval", "1m"))
				if err != nil {
					t.Fatal(err)
				}
				rules.WriteString("      - {record: query, expr: " + string(expr) + "}\n")
			}
		}
	}
	file := filepath.Join(t.TempDir(), "queries.yaml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", "--lint=none", file)
}

// TestMetricsExist: every metric that an alert or a dashboard asks for is on the
// page of metrics, and the labels that it is asked by are its own.
func TestMetricsExist(t *testing.T) {
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(fairlead_[a-z0-9_]+)` \\| ([a-z]+) \\| ([a-z_, ]*) \\|").FindAllStringSubmatch(string(page), -1) {
		names := []string{row[1]}
		if row[2] == "histogram" {
			names = []string{row[1] + "_bucket", row[1] + "_count", row[1] + "_sum"}
		}
		for _, n := range names {
			labels[n] = row[3]
		}
	}
	var exprs []string
	for _, r := range alerts(t) {
		exprs = append(exprs, r.Expr.String())
	}
	for _, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				exprs = append(exprs, q.Expr)
			}
		}
	}
	for _, expr := range exprs {
		for _, use := range regexp.MustCompile(`(fairlead_[a-z0-9_]+)(?:\{([^}]*)\})?`).FindAllStringSubmatch(expr, -1) {
			has, known := labels[use[1]]
			if !known {
				t.Errorf("there is no metric %s: %s", use[1], expr)
			}
			for _, m := range regexp.MustCompile(`([a-z_]+)[!=]`).FindAllStringSubmatch(use[2], -1) {
				if !slices.Contains(strings.Split(has, ", "), m[1]) {
					t.Errorf("%s has the labels %q, not %s: %s", use[1], has, m[1], expr)
				}
			}
		}
	}
}

// TestMonitoring: the PrometheusRule and the ConfigMap say what the files say, the
// monitors select the pods or their Services, and the annotations of the pods name
// a port that is theirs.
func TestMonitoring(t *testing.T) {
	_, docs := render(t, "monitored")
	objects := decode(t, docs)
	var want monitoringv1.PrometheusRuleSpec
	readYAML(t, alertsFile, &want)
	if got := pick[*monitoringv1.PrometheusRule](objects); len(got) != 1 || !reflect.DeepEqual(got[0].Spec, want) {
		t.Errorf("%d PrometheusRules; the first is that of %s: %v", len(got), alertsFile, len(got) > 0)
	}
	for _, m := range pick[*corev1.ConfigMap](objects) {
		if m.Labels["grafana_dashboard"] != "1" {
			continue
		}
		for name, text := range m.Data {
			data, err := os.ReadFile(filepath.Join(chart, "files/dashboards", strings.TrimPrefix(name, "fairlead-")))
			var got, want any
			if err == nil {
				err = json.Unmarshal(data, &want)
			}
			if bad := json.Unmarshal([]byte(text), &got); err != nil || bad != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s differs from its file: %v %v", name, err, bad)
			}
		}
		if len(m.Data) != 6 {
			t.Errorf("%d dashboards in %s", len(m.Data), m.Name)
		}
	}
	services := pick[*corev1.Service](objects)
	for _, m := range pick[*monitoringv1.ServiceMonitor](objects) {
		selected := slices.DeleteFunc(slices.Clone(services), func(s *corev1.Service) bool {
			return !labels.SelectorFromSet(m.Spec.Selector.MatchLabels).Matches(labels.Set(s.Labels))
		})
		if len(selected) != 1 || selected[0].Spec.Ports[0].Name != m.Spec.Endpoints[0].Port {
			t.Errorf("%s selects %d Services", m.Name, len(selected))
		}
	}
	if n := len(pick[*monitoringv1.ServiceMonitor](objects)); n != 2 {
		t.Errorf("%d ServiceMonitors, want 2", n)
	}
	for _, pod := range []corev1.PodTemplateSpec{pick[*appsv1.Deployment](objects)[0].Spec.Template, pick[*appsv1.DaemonSet](objects)[0].Spec.Template} {
		if pod.Annotations["prometheus.io/scrape"] != "" {
			t.Error("pods of a ServiceMonitor are annotated to be scraped once more")
		}
	}
}

// TestMonitoringValues: what cannot work is refused with what to do.
func TestMonitoringValues(t *testing.T) {
	if _, err := helm(t, "template", "fairlead", chart, "--set", "metrics.serviceMonitor.enabled=true"); err == nil || !strings.Contains(err.Error(), "needs metrics.agent.address") {
		t.Errorf("ServiceMonitors of agents that cannot be reached: %v", err)
	}
	_, docs := render(t, "standalone") // without monitors, agents at 0.0.0.0
	agent := pick[*appsv1.DaemonSet](decode(t, docs))[0].Spec.Template
	if a := agent.Annotations; a["prometheus.io/scrape"] != "true" || a["prometheus.io/port"] != "10249" || a["prometheus.io/path"] != "/metrics" {
		t.Errorf("the agents' annotations are %v", a)
	}
	_, docs = render(t, "default")
	objects := decode(t, docs)
	if a := pick[*appsv1.DaemonSet](objects)[0].Spec.Template.Annotations; a["prometheus.io/scrape"] != "" {
		t.Errorf("agents at 127.0.0.1 have the annotations %v", a)
	}
	if a := pick[*appsv1.Deployment](objects)[0].Spec.Template.Annotations; a["prometheus.io/scrape"] != "true" || a["prometheus.io/port"] != "9810" {
		t.Errorf("the controller's annotations are %v", a)
	}
	out := mustHelm(t, "template", "fairlead", chart, "--set", "metrics.serviceMonitor.enabled=true,metrics.agent.address=0.0.0.0,controller.mode=ccm", "--show-only", "templates/monitoring.yaml")
	if n := strings.Count(out, "scheme: https"); n != 1 {
		t.Errorf("%d endpoints with HTTPS beside a cloud controller manager, want 1", n)
	}
}
