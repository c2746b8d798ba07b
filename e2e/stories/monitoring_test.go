package stories

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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

// labsScript runs a script of labs/ twice, with the lab's kubectl and helm.
func labsScript(t *testing.T, name string, settings ...string) {
	t.Helper()
	l := cluster(t)
	bin := filepath.Dir(l.KubectlCommand(t.Context()).Path) + ":" + filepath.Dir(l.HelmCommand(t.Context()).Path)
	for range 2 {
		cmd := exec.CommandContext(t.Context(), filepath.Join(l.Root(), "labs", "scripts", name)) //nolint:gosec // our own script
		cmd.Env = slices.Concat(l.HelmCommand(t.Context()).Env, settings, []string{"LAB_ENV=/nowhere", "PATH=" + bin + ":" + os.Getenv("PATH")})
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
}

// TestLabsService: the scripts by which labs/ make a pool and a Service, and ask it,
// end with an answer to every request.
func TestLabsService(t *testing.T) {
	l := cluster(t)
	data, err := os.ReadFile(filepath.Join(l.Root(), "labs", "web.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	manifests := standIns(t, string(data))
	file := filepath.Join(t.TempDir(), "web.yaml")
	if err := os.WriteFile(file, []byte(manifests), 0o600); err != nil {
		t.Fatal(err)
	}
	const pool = "apiVersion: fairlead.io/v1alpha1\nkind: AddressPool\nmetadata: {name: lab}\nspec: {addresses: [198.18.0.251-198.18.0.252]}\n"
	apply(t, pool+"---\n"+manifests) // so that it is removed; the script changes nothing but labels
	labsScript(t, "cluster.sh", "VIPS=198.18.0.251-198.18.0.252", "WEB="+file)
	url := "http://" + externalIP(t, "web") + "/hostname"
	out, err := l.Exec(t.Context(), lab.Client, "env", "LAB_ENV=/nowhere", "PATIENCE=60", "URL="+url, filepath.Join(l.Root(), "labs", "scripts", "client.sh"))
	if err != nil {
		t.Fatalf("client.sh: %v: %s", err, out)
	}
	t.Logf("%s", out)
}

// TestLabsInstall: the script by which labs/ install fairlead installs it on a real
// cluster, also over itself, here with the values of examples/monitoring; then the
// example's Prometheus would find every agent and controller, and they answer.
func TestLabsInstall(t *testing.T) {
	l := cluster(t)
	undo(t, l.InstallFairlead) // as it was
	labsScript(t, "fairlead.sh", "CONTROL_PLANE="+lab.APIHost, "CHART="+filepath.Join(l.Root(), "charts", "fairlead"),
		"IMAGE_TAG=dev", "DETECT_LOCAL=node-cidr", "SERVICE_CIDR=198.19.0.0/16", "CHART_VALUES="+example(l, "fairlead-values.yaml"))
	kubectl(t, "-n", lab.FairleadNamespace, "rollout", "status", "daemonset/fairlead-agent", "deployment/fairlead-controller", "--timeout=3m")
	data, err := os.ReadFile(example(l, "prometheus.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, config := prometheusConfig(t, string(data))
	var urls []string
	eventually(t, settled, "targets", func(context.Context) error {
		urls = config.targets(t, lab.FairleadNamespace)
		if want := len(l.Nodes()) + 2; len(urls) != want {
			return fmt.Errorf("Prometheus would scrape %v, want the agents and two controllers, %d", urls, want)
		}
		return nil
	})
	t.Log(urls)
	for _, url := range urls {
		eventually(t, settled, url, func(ctx context.Context) error {
			page, err := get(ctx, l, lab.Client, url)
			if err == nil && !strings.Contains(page, "\nfairlead_") {
				err = fmt.Errorf("no metric of fairlead in %.200q", page)
			}
			return err
		})
	}
}
