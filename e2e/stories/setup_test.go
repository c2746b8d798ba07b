package stories

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/lab"
)

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
