package stories

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
)

// fairlead runs the command as its user does, and returns what it prints and its
// exit code.
func fairlead(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	cmd := cluster(t).FairleadCommand(t.Context(), args...)
	data, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(data), cmd.ProcessState.ExitCode()
}

// Who installs fairlead is told by its commands what there is, why a Service is
// not reached, and what happens to a packet; helm tests, upgrades and uninstalls
// it, and then nothing of it is left in the nodes' kernels, nor in the API but what
// the docs say.
func TestOperate(t *testing.T) {
	o := &operator{T: t, l: cluster(t), page: openPage(t, "first-service.md")}
	web(t)
	o.t("look", o.look)
	o.t("refused", o.refused)
	o.t("without endpoints", o.withoutEndpoints)
	o.t("programs read it too", o.formats)
	o.t("collect", o.collect)
	o.t("helm test and upgrade", o.helm)
	o.t("uninstall", o.uninstall)
	if err := o.page.complete(); err != nil && !t.Failed() {
		t.Error(err)
	}
}

type operator struct {
	*testing.T
	l    *lab.Lab
	page *page
}

func (o *operator) t(name string, part func()) {
	outer := o.T
	defer func() { o.T = outer }()
	outer.Run(name, func(t *testing.T) {
		o.T = t
		part()
	})
}

// tells runs a command until the page shows what it prints: a node that another
// story has just restarted may not be electable yet. The mark there is the command
// with note.
func (o *operator) tells(code int, note string, args ...string) {
	o.Helper()
	name := "fairlead " + strings.Join(args, " ")
	eventually(o.T, takeOver, name, func(context.Context) error {
		out, got := fairlead(o.T, args...)
		if got != code {
			return fmt.Errorf("exit %d, want %d:\n%s", got, code, out)
		}
		return o.page.shows(name+note, "$ "+name+"\n"+out)
	})
}

// prints runs another command and shows it under the words that a reader types.
func (o *operator) prints(words, out string) {
	o.Helper()
	if err := o.page.shows(words, "$ "+words+"\n"+strings.TrimRight(out, "\n")+"\n"); err != nil {
		o.Error(err)
	}
}

func (o *operator) look() {
	o.tells(0, "", "status")
	o.prints("kubectl get service web", kubectl(o.T, "get", "service", "web"))
	o.tells(0, "", "explain", "default/web")
	o.tells(0, "", "trace", "--from", "198.18.0.100", "--to", "198.18.0.200:80")
	o.tells(0, "", "doctor")
	p, err := o.l.StartProbe(o.Context(), lab.Client, demo.URL("198.18.0.200", 80), "-every=20ms")
	if err != nil {
		o.Fatal(err)
	}
	o.tells(0, "", "top", "--once")
	if _, err := p.Stop(); err != nil {
		o.Error(err)
	}
	for _, r := range o.top() {
		if r.Address == "198.18.0.200" && (r.ConnectionsPerSecond < 10 || r.BytesPerSecond < 1000 || r.Ready != demo.Replicas) {
			o.Errorf("with 50 requests a second: %+v", r)
		}
	}
}

type topRow struct {
	Address                              string
	ConnectionsPerSecond, BytesPerSecond float64
	Ready                                int
	Moved                                time.Time
}

// top asks while 50 requests a second are made.
func (o *operator) top() []topRow {
	o.Helper()
	p, err := o.l.StartProbe(o.Context(), lab.Client, demo.URL("198.18.0.200", 80), "-every=20ms")
	if err != nil {
		o.Fatal(err)
	}
	out, code := fairlead(o.T, "top", "-o", "json")
	if _, err := p.Stop(); err != nil {
		o.Error(err)
	}
	var table struct{ Rows []topRow }
	if err := json.Unmarshal([]byte(out), &table); err != nil || code != 0 || len(table.Rows) == 0 {
		o.Fatalf("exit %d, %v: %s", code, err, out)
	}
	return table.Rows
}

// refused: every reason that a Service alone can bring about is told by explain as
// in the condition, word for word.
func (o *operator) refused() {
	refusals := map[string]string{
		"PoolNotFound":       "fairlead.io/pool: nowhere",
		"OutsidePools":       "fairlead.io/addresses: 203.0.113.1",
		"AddressInUse":       "fairlead.io/addresses: 198.18.0.200",
		"ShareRefused":       "fairlead.io/addresses: 198.18.0.200, fairlead.io/share-key: web",
		"InvalidRequest":     "fairlead.io/addresses: somewhere",
		"ConflictingRequest": "fairlead.io/addresses: 198.18.0.201, metallb.io/loadBalancerIPs: 198.18.0.202",
	}
	var all strings.Builder
	for reason, notes := range refusals {
		fmt.Fprintf(&all, "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, annotations: {%s}}\nspec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80}]}\n", strings.ToLower(reason), notes)
	}
	apply(o.T, all.String())
	for reason := range refusals {
		name := strings.ToLower(reason)
		message := o.condition(name, "fairlead.io/AddressAssigned", reason)
		what, _, _ := strings.Cut(message, ". Next: ") // explain ends with its own, which names a command
		if out, code := fairlead(o.T, "explain", "default/"+name); code != 1 || !strings.Contains(out, reason+": "+what) || !strings.Contains(out, "\nNext: ") {
			o.Errorf("exit %d, want 1 and %s: %s\n%s", code, reason, what, out)
		}
	}
	o.tells(1, "", "explain", "default/poolnotfound")
	o.tells(1, "", "explain", "default/addressinuse")
}

// condition waits for a condition with a reason, and returns its message.
func (o *operator) condition(service, kind, reason string) (message string) {
	o.Helper()
	eventually(o.T, settled, "condition of "+service, func(ctx context.Context) error {
		out, err := o.l.Kubectl(ctx, "get", "service", service, "-o", "jsonpath={.status.conditions}")
		if err != nil {
			return err
		}
		var all []metav1.Condition
		_ = json.Unmarshal(out, &all) // empty at first
		for _, c := range all {
			if c.Type == kind && c.Reason == reason {
				message = c.Message
				return nil
			}
		}
		return fmt.Errorf("%s", out)
	})
	return message
}

func (o *operator) withoutEndpoints() {
	kubectl(o.T, "scale", "deployment", "web", "--replicas=0")
	o.tells(1, ", without pods", "explain", "default/web")
	o.tells(1, ", without pods", "status")
	out, code := fairlead(o.T, "status", "-o", "name")
	if code != 1 || !strings.Contains(out, "service/web -n default\n") {
		o.Errorf("exit %d: %s", code, out)
	}
	kubectl(o.T, "scale", "deployment", "web", fmt.Sprintf("--replicas=%d", demo.Replicas))
	kubectl(o.T, "rollout", "status", "deployment/web", "--timeout=2m")
}

// formats: what programs read, the plugin's name, and what a shell completes.
func (o *operator) formats() {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"status", "-o", "json"}, `"kind": "Status"`},
		{[]string{"status", "-o", "yaml"}, "kind: Status\n"},
		{[]string{"status", "-o", "wide"}, "RANGES"},
		{[]string{"explain", "default/web", "-o", "jsonpath={.verdict}"}, "default/web is reached at"},
		{[]string{"__complete", "explain", "default/w"}, "default/web\n"},
		{[]string{"completion", "bash"}, "__start_fairlead"},
	} {
		if out, code := fairlead(o.T, c.args...); code != 0 || !strings.Contains(out, c.want) {
			o.Errorf("%v: exit %d, want %q in %s", c.args, code, c.want, out)
		}
	}
	if out, code := fairlead(o.T, "explain", "default/nothing"); code != 2 || !strings.Contains(out, "there is no Service default/nothing") {
		o.Errorf("exit %d: %s", code, out)
	}
	plugin := filepath.Join(o.TempDir(), "kubectl-fairlead")
	if err := os.Symlink(o.l.FairleadCommand(o.Context()).Path, plugin); err != nil {
		o.Fatal(err)
	}
	cmd := o.l.KubectlCommand(o.Context(), "fairlead", "explain", "--help")
	cmd.Env = append(cmd.Env, "PATH="+filepath.Dir(plugin)+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "kubectl fairlead explain NAMESPACE/SERVICE") {
		o.Errorf("kubectl fairlead: %v: %s", err, out)
	}
	bad := filepath.Join(o.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte(poolManifest("bad", "198.18.0.300/32")), 0o600); err != nil {
		o.Fatal(err)
	}
	if out, code := fairlead(o.T, "doctor", "-f", bad); code != 1 || !strings.Contains(out, "FL0215") {
		o.Errorf("doctor -f: exit %d: %s", code, out)
	}
}

// collect: the archive holds what it says, and no Secret.
func (o *operator) collect() {
	file := filepath.Join(o.TempDir(), "support.tar.gz")
	if out, code := fairlead(o.T, "collect", "--file", file); code != 0 {
		o.Fatalf("exit %d: %s", code, out)
	}
	f, err := os.Open(file)
	if err != nil {
		o.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		o.Fatal(err)
	}
	names := map[string]bool{}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			o.Fatal(err)
		}
		names[h.Name] = true
	}
	for _, want := range []string{"fairlead/status.txt", "fairlead/doctor.txt", "fairlead/objects/nodestate.yaml", "fairlead/events.txt"} {
		if !names[want] {
			o.Errorf("the archive lacks %s: %v", want, names)
		}
	}
	if names["fairlead/objects/secret.yaml"] {
		o.Error("the archive has Secrets")
	}
}

func (o *operator) chart(command string, args ...string) string {
	o.Helper()
	out, err := o.l.Helm(o.Context(), append([]string{command, "fairlead", filepath.Join(o.l.Root(), "charts", "fairlead"), "--namespace", lab.FairleadNamespace}, args...)...)
	if err != nil {
		o.Fatal(err)
	}
	return string(out)
}

func (o *operator) helm() {
	out, err := o.l.Helm(o.Context(), "test", "fairlead", "--namespace", lab.FairleadNamespace, "--logs", "--timeout=2m")
	if err != nil {
		o.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "Phase:          Succeeded") {
		o.Errorf("helm test:\n%s", out)
	}
	o.prints("kubectl -n fairlead-system logs fairlead-test", kubectl(o.T, "-n", lab.FairleadNamespace, "logs", "fairlead-test"))
	notes := o.chart("upgrade", "--reset-then-reuse-values", "--set", "pools[0].name=more", "--set", "pools[0].addresses[0]=198.18.0.190/32")
	for _, want := range []string{"more  198.18.0.190/32", "lan  198.18.0.200-198.18.0.250"} {
		if !strings.Contains(notes, want) {
			o.Errorf("the notes do not show the pool %q:\n%s", want, notes)
		}
	}
	ready := func(ctx context.Context) error {
		_, err := o.l.Kubectl(ctx, "wait", "--for=condition=Ready", "addresspool/more", "--timeout=1s")
		return err
	}
	eventually(o.T, settled, "the pool of the values", ready)
	o.chart("upgrade", "--reset-then-reuse-values", "--set", "pools=null")
	eventually(o.T, settled, "the end of the pool that was taken out of the values", func(ctx context.Context) error {
		out, err := o.l.Kubectl(ctx, "get", "addresspool", "more", "--ignore-not-found", "-o", "name")
		if err == nil && len(out) > 0 {
			err = errors.New("it is still there")
		}
		return err
	})
}

// uninstall leaves a Service of type LoadBalancer behind on purpose.
func (o *operator) uninstall() {
	back := time.Now()
	undo(o.T, func(ctx context.Context) error {
		if err := o.l.InstallFairlead(ctx); err != nil {
			return err
		}
		// The pool of the quick start was declared by values that are gone now.
		if _, err := o.l.Kubectl(ctx, "delete", "addresspool", "lan", "--ignore-not-found"); err != nil {
			return err
		}
		if _, err := o.l.Kubectl(ctx, "apply", "-f", filepath.Join(o.l.Root(), "examples", "pool.yaml")); err != nil {
			return err
		}
		o.Logf("uninstalled and installed again in %s", time.Since(back).Round(time.Second))
		return nil
	})
	cleanup := []string{"cleanup", "--cluster", "--kubeconfig=" + o.l.Kubeconfig()}
	if out, code := fairlead(o.T, cleanup...); code != 1 || !strings.Contains(out, "still installed: DaemonSet fairlead-system/fairlead-agent") {
		o.Errorf("cleanup --cluster while agents run: exit %d\n%s", code, out)
	}
	if out, err := o.l.Helm(o.Context(), "uninstall", "fairlead", "--namespace", lab.FairleadNamespace, "--timeout=3m"); err != nil {
		o.Fatalf("%v: %s", err, out)
	}
	eventually(o.T, settled, "the pods to end", func(ctx context.Context) error {
		out, err := o.l.Kubectl(ctx, "-n", lab.FairleadNamespace, "get", "pods", "-l", "app.kubernetes.io/part-of=fairlead", "-o", "name")
		if err == nil && strings.TrimSpace(string(out)) != "pod/fairlead-test" && len(out) > 0 {
			err = errors.New(string(out))
		}
		return err
	})
	for _, node := range o.l.Nodes() {
		o.kernel(node)
	}
	if f := kubectl(o.T, "get", "service", "web", "-o", "jsonpath={.metadata.finalizers}"); f != "" {
		o.Errorf("the Service has the finalizers %s", f)
	}
	kubectl(o.T, "delete", "service", "web", "--timeout=20s")
	const mine = "app.kubernetes.io/part-of=fairlead"
	if out, code := fairlead(o.T, cleanup...); code != 0 {
		o.Errorf("cleanup --cluster: exit %d\n%s", code, out)
	}
	left := kubectl(o.T, "get", "clusterroles,clusterrolebindings,roles,rolebindings,serviceaccounts,services,daemonsets,deployments,jobs,configmaps,networkpolicies,poddisruptionbudgets", "-A", "-l", mine, "-o", "name")
	rest := kubectl(o.T, "-n", lab.FairleadNamespace, "get", "secrets,leases,nodestates", "-o", "name")
	if left+rest != "" {
		o.Errorf("in the API are left:\n%s\n%s", left, rest)
	}
	kubectl(o.T, "-n", lab.FairleadNamespace, "delete", "pod", "fairlead-test", "--ignore-not-found")
	kubectl(o.T, "delete", "crd", "-l", mine, "--timeout=60s")
	if out := kubectl(o.T, "get", "crd", "-o", "name"); strings.Contains(out, "fairlead.io") {
		o.Errorf("CRDs are left: %s", out)
	}
	kubectl(o.T, "delete", "namespace", lab.FairleadNamespace, "--timeout=60s")
	o.quickStart()
}

// quickStart runs the commands of the README exactly as written, on a cluster that has
// never heard of fairlead: no kube-proxy, no namespace, no CRD.
func (o *operator) quickStart() {
	o.Helper()
	page, err := os.ReadFile(filepath.Join(o.l.Root(), "README.md"))
	if err != nil {
		o.Fatal(err)
	}
	_, after, _ := strings.Cut(string(page), "## Install it on a cluster\n")
	_, after, _ = strings.Cut(after, "```sh\n")
	script, _, found := strings.Cut(after, "```\n")
	if !found {
		o.Fatal("the README has no quick start")
	}
	if err := o.l.ImportFairlead(o.Context(), o.appVersion()); err != nil { // in the place of the registry
		o.Fatal(err)
	}
	kubectl(o.T, "apply", "-f", filepath.Join(o.l.Root(), "examples", "web.yaml"))
	programs := o.TempDir()
	for name, path := range map[string]string{"helm": o.l.HelmCommand(o.Context()).Path, "kubectl": o.l.KubectlCommand(o.Context()).Path} {
		if err := os.Symlink(path, filepath.Join(programs, name)); err != nil {
			o.Fatal(err)
		}
	}
	cmd := o.l.HelmCommand(o.Context())
	cmd.Path, cmd.Args, cmd.Dir = "/bin/bash", []string{"bash", "-e", "-c", script}, o.l.Root()
	cmd.Env = append(cmd.Env, "PATH="+programs+":"+os.Getenv("PATH"))
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		o.Fatalf("%v\n%s\n%s", err, script, out)
	}
	eventually(o.T, settled, "the address that the README promises", func(ctx context.Context) error {
		r, err := o.l.Probe(ctx, lab.Client, "http://198.18.0.200/", "-n=20")
		if err == nil {
			err = objection(r, demo.Replicas)
		}
		return err
	})
	o.Logf("from helm install to the first answers: %s", time.Since(began).Round(time.Second))
	if v := kubectl(o.T, "get", "namespace", lab.FairleadNamespace, "-o", `jsonpath={.metadata.labels.pod-security\.kubernetes\.io/enforce}`); v != "privileged" {
		o.Errorf("the namespace's Pod Security label is %q", v)
	}
}

// appVersion is the tag of the image that the chart asks for by itself.
func (o *operator) appVersion() string {
	o.Helper()
	data, err := os.ReadFile(filepath.Join(o.l.Root(), "charts", "fairlead", "Chart.yaml"))
	if err != nil {
		o.Fatal(err)
	}
	_, after, _ := strings.Cut(string(data), "\nappVersion: ")
	version, _, _ := strings.Cut(after, "\n")
	return version
}

// kernel looks for what fairlead left on a node.
func (o *operator) kernel(node string) {
	o.Helper()
	for what, args := range map[string][]string{
		"nftables":  {"nft", "list", "tables"},
		"addresses": {"ip", "-o", "address"},
		"state":     {"ls", "-A", "/var/lib/fairlead"},
	} {
		out, err := o.l.Exec(o.Context(), node, args...)
		if err != nil {
			o.Errorf("%s: %v", node, err)
		}
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "fairlead") || strings.Contains(line, "198.18.0.2") && strings.Contains(line, "/32") || strings.Contains(line, "fe80::fa1e:") || what == "state" {
				o.Errorf("%s of %s: %s", what, node, line)
			}
		}
	}
}
