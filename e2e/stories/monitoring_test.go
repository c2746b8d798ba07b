package stories

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/e2e/lab"
)

// example is the path of a file of examples/monitoring.
func example(l *lab.Lab, name string) string {
	return filepath.Join(l.Root(), "examples", "monitoring", name)
}

// TestMonitoringExample: Prometheus, Grafana and a server like Rancher are reached as
// examples/monitoring has them. The API server takes the files as they are; what runs
// has the hello server in place of the three programs, and nothing else changed.
func TestMonitoringExample(t *testing.T) {
	l := cluster(t)
	electable(t)
	read := func(name string) string {
		data, err := os.ReadFile(example(l, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	apply(t, read("namespaces.yaml"))
	dashboards := kubectl(t, "-n", "monitoring", "create", "configmap", "fairlead-dashboards",
		"--from-file="+filepath.Join(l.Root(), "charts", "fairlead", "files", "dashboards"), "--dry-run=client", "-o", "yaml")
	apply(t, dashboards)
	apply(t, read("services.yaml"))
	for _, name := range []string{"prometheus.yaml", "grafana.yaml", "rancher.yaml"} {
		kubectl(t, "apply", "--dry-run=server", "-f", example(l, name))
		apply(t, standIns(t, read(name)))
	}
	promtool(t, read("prometheus.yaml"))
	pods(t, "monitoring", "app in (prometheus-server,grafana)", 2)
	pods(t, "cattle-system", "app=rancher", 1)

	for _, node := range l.Nodes() {
		for port, inside := range map[int]string{30003: "9090", 30004: "3000"} {
			answersTo(t, lab.Client, nodePort(t, node, port), 1)
			r := hostAsks(t, lab.Client, nodePort(t, node, port), "-n=20")
			wantAll(t, r, 1)
			wantPort(t, r, inside)
		}
	}
	ip := kubectl(t, "-n", "cattle-system", "wait", "service/rancher", "--for=jsonpath={.status.loadBalancer.ingress[0].ip}", "--timeout=2m",
		"--output=jsonpath={.status.loadBalancer.ingress[0].ip}")
	for _, port := range []string{"443", "80"} {
		for _, host := range []string{lab.Client, lab.Ext} {
			target := "http://" + ip + ":" + port + "/" // the server's words, not the port, are TLS
			answersTo(t, host, target, 1)
			r := hostAsks(t, host, target, "-n=20")
			wantAll(t, r, 1)
			wantPort(t, r, port)
		}
	}
}

// standIns replaces the image of every container of Deployments, and its arguments
// by the ports that it says it has.
func standIns(t *testing.T, manifests string) string {
	t.Helper()
	var out []string
	for _, text := range strings.Split(manifests, "\n---\n") {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(text), &object); err != nil {
			t.Fatal(err)
		}
		if object["kind"] == "Deployment" {
			pod := object["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
			for _, c := range pod["containers"].([]any) {
				c := c.(map[string]any)
				var ports []string
				for _, p := range c["ports"].([]any) {
					ports = append(ports, fmt.Sprint(p.(map[string]any)["containerPort"]))
				}
				c["image"], c["imagePullPolicy"], c["args"] = lab.HelloImage, "IfNotPresent", []string{"--http=" + strings.Join(ports, ",")}
			}
		}
		data, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(data))
	}
	return strings.Join(out, "---\n")
}

// promtool checks Prometheus' configuration, but for how it finds Kubernetes' objects:
// Debian's is built without that.
func promtool(t *testing.T, manifests string) {
	t.Helper()
	text, config := prometheusConfig(t, manifests)
	for _, job := range config.ScrapeConfigs {
		if role := job.Finds[0].Role; role != "pod" && role != "endpointslice" {
			t.Errorf("job %s: Prometheus knows no role %q", job.Job, role)
		}
	}
	text = regexp.MustCompile(`kubernetes_sd_configs: .*`).ReplaceAllString(text, "static_configs: []")
	file := filepath.Join(t.TempDir(), "prometheus.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "promtool", "check", "config", file).CombinedOutput(); err != nil { //nolint:gosec // our own file
		t.Errorf("%v: %s", err, out)
	}
}
