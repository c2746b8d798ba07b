package controller_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/e2e/apiserver"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/internal/chores"
	"github.com/fairlead/fairlead/internal/job/retire"
	"github.com/fairlead/fairlead/internal/kube"
)

// TestRenderedObjects: the API server takes every object that the chart renders,
// for each set of values, with strict validation. It does not know the kinds of
// the Prometheus operator, which are left out.
func TestRenderedObjects(t *testing.T) {
	c := newCluster(t)
	root, err := lab.Checkout()
	c.must(err)
	c.releaseNamespace()
	files, err := filepath.Glob(filepath.Join(root, "charts", "testdata", "*.values.yaml"))
	c.must(err)
	if len(files) != 9 {
		t.Fatalf("%d value sets, want 9", len(files))
	}
	for _, file := range files {
		set := strings.TrimSuffix(filepath.Base(file), ".values.yaml")
		t.Run(set, func(t *testing.T) {
			var known []string
			left := 0
			for _, doc := range strings.Split(strings.TrimPrefix(c.render(set), "---\n"), "\n---\n") {
				if strings.Contains(doc, "\napiVersion: monitoring.coreos.com/") {
					left++
					continue
				}
				known = append(known, doc)
			}
			manifests := filepath.Join(t.TempDir(), "all.yaml")
			c.must(os.WriteFile(manifests, []byte(strings.Join(known, "\n---\n")), 0o600))
			out, err := server.Kubectl(t.Context(), "apply", "--dry-run=server", "--validate=strict", "-f", manifests)
			if err != nil {
				t.Error(err)
			}
			if n := strings.Count(out, "(server dry run)"); n != len(known) {
				t.Errorf("%d of %d objects are taken:\n%s", n, len(known), out)
			}
			t.Logf("%d objects taken, %d of the Prometheus operator's left out", len(known), left)
		})
	}
}

// TestHelm: the real helm installs the chart on an API server that does not know
// its kinds, with a pool in the values, upgrades it, and uninstalls it. The controller
// makes the pool. Pools and CRDs stay, and the next install goes on with them.
func TestHelm(t *testing.T) {
	r := newRelease(t)
	if notes := r.helm("install", "192.0.2.0/28", "--create-namespace"); !strings.Contains(notes, "lan  192.0.2.0/28") {
		t.Errorf("the notes do not show the pool:\n%s", notes)
	}
	for range 2 { // the second time it is there
		r.chores()
		r.pool("192.0.2.0/28")
	}
	first := r.uid()
	r.helm("upgrade", "192.0.2.0/27")
	r.chores()
	r.pool("192.0.2.0/27")
	r.must(r.Server.Helm(t.Context(), "uninstall", "fairlead", "--namespace", release))
	r.pool("192.0.2.0/27")
	left := r.must(r.Kubectl(t.Context(), "get", "clusterroles,clusterrolebindings,crds,namespaces", "-A", "-l", "app.kubernetes.io/part-of=fairlead", "-o", "name"))
	if n := strings.Count(left, "customresourcedefinition"); n != 5 || strings.Count(left, "\n") != n {
		t.Errorf("after the uninstall:\n%s", left)
	}
	if left := r.must(r.Kubectl(t.Context(), "-n", release, "get", "all,sa,roles,rolebindings", "-l", "app.kubernetes.io/part-of=fairlead", "-o", "name")); left != "" {
		t.Errorf("after the uninstall:\n%s", left)
	}
	r.helm("install", "192.0.2.0/26")
	r.chores()
	r.pool("192.0.2.0/26")
	if r.uid() != first {
		t.Error("the pool is not the one of the first install")
	}
	r.takenOut()
}

// takenOut: a pool that is taken out of the values is deleted once no Service holds
// an address of it, and what was taken out with it not before. A pool that nobody
// declared stays, as those that version 0.1.0 kept.
func (r *helmRelease) takenOut() {
	r.Helper()
	pool := &v1alpha1.AddressPool{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}, Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"198.51.100.0/30"}}}
	_, err := r.clients.Pools.Create(r.Context(), pool, metav1.CreateOptions{})
	r.must("", err)
	held := &v1alpha1.Address{ObjectMeta: metav1.ObjectMeta{Name: "192.0.2.1"}, Spec: v1alpha1.AddressSpec{
		Address: "192.0.2.1", Pool: "lan", Holders: []v1alpha1.AddressHolder{{Namespace: "default", Name: "web", UID: "u"}},
	}}
	_, err = r.clients.Addresses.Create(r.Context(), held, metav1.CreateOptions{})
	r.must("", err)
	r.helm("upgrade", "", "--reset-values")
	r.chores()
	r.pool("192.0.2.0/26")
	r.must("", r.clients.Addresses.Delete(r.Context(), held.Name, metav1.DeleteOptions{}))
	r.chores()
	if left := r.must(r.Kubectl(r.Context(), "get", "addresspools", "-o", "name")); left != "addresspool.fairlead.io/theirs\n" {
		r.Errorf("the pools are\n%s", left)
	}
}

// TestGitOps: what helm template prints can be applied as it is to a cluster that does
// not know fairlead's kinds, and again with another image. Nothing in it runs once.
func TestGitOps(t *testing.T) {
	r := newRelease(t)
	r.lookup()
	for _, tag := range []string{"one", "two"} {
		file := filepath.Join(t.TempDir(), tag+".yaml")
		r.must("", os.WriteFile(file, []byte(r.helm("template", "192.0.2.0/28", "--set", "namespace.create=true,image.tag="+tag)), 0o600))
		r.must(r.Kubectl(t.Context(), "apply", "-f", file))
		got := r.must(r.Kubectl(t.Context(), "-n", release, "get", "deployments,daemonsets", "-o", "jsonpath={.items[*].spec.template.spec.containers[*].image}"))
		if want := strings.Repeat(" ghcr.io/fairlead/fairlead:"+tag, 2); " "+got != want {
			t.Errorf("the images are %s", got)
		}
		if runs := r.must(r.Kubectl(t.Context(), "-n", release, "get", "jobs,pods", "-o", "name")); runs != "" {
			t.Errorf("what runs once:\n%s", runs)
		}
	}
}

// lookup: a Helm that asks the cluster gives both workloads the API servers that the
// cluster shows, if the values say none, and has the pod of helm test, which may do
// no more than its task.
func (r *helmRelease) lookup() {
	r.Helper()
	r.must("", r.endpoints("192.0.2.12", "192.0.2.11"))
	const found = "--api-servers=https://192.0.2.11:6443,https://192.0.2.12:6443\n"
	out := r.helm("template", "", "--dry-run=server")
	if n := strings.Count(out, found); n != 2 {
		r.Errorf("%d workloads get the API servers, want 2", n)
	}
	if out := r.helm("template", "", "--dry-run=server", "--set", "api.host=192.0.2.9"); strings.Contains(out, found) || strings.Count(out, "--api-servers=https://192.0.2.9:6443\n") != 2 {
		r.Error("what the values say is not what the workloads get")
	}
	if out := r.helm("template", ""); strings.Contains(out, "--api-servers") || strings.Contains(out, "helm.sh/hook") {
		r.Error("the chart knows what it did not ask")
	}
	r.testPod(out)
}

// testPod checks the hook of helm test.
func (r *helmRelease) testPod(rendered string) {
	r.Helper()
	var rules []string
	for _, doc := range strings.Split(rendered, "\n---\n") {
		if !strings.Contains(doc, "helm.sh/hook: test\n") {
			continue
		}
		var o struct {
			Kind              string
			Rules             []rbacv1.PolicyRule
			Spec              corev1.PodSpec
			metav1.ObjectMeta `json:"metadata"`
		}
		r.must("", yaml.Unmarshal([]byte(doc), &o))
		for _, rule := range o.Rules {
			rules = append(rules, strings.Join(slices.Concat([]string{strings.Join(rule.Verbs, ",")}, rule.Resources, rule.ResourceNames), " "))
		}
		if o.Kind != "Pod" {
			continue
		}
		s := o.Spec.Containers[0].SecurityContext
		if !*o.Spec.SecurityContext.RunAsNonRoot || !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || o.Spec.HostNetwork ||
			!slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) != 0 {
			r.Error("the pod is not hardened")
		}
		i := slices.IndexFunc(o.Spec.Containers[0].Args, func(a string) bool { return strings.HasPrefix(a, "--selector=") })
		selector, err := labels.Parse(strings.TrimPrefix(o.Spec.Containers[0].Args[i], "--selector="))
		if err != nil || !selector.Matches(labels.Set(o.Labels)) {
			r.Errorf("%s does not select the pod: %v", selector, err)
		}
		rules = append(rules, "pod")
	}
	slices.Sort(rules)
	if got, want := strings.Join(rules, "; "), "create services; get,delete services fairlead-test; pod"; got != want {
		r.Errorf("helm test has %s\nwant %s", got, want)
	}
}

// helmRelease is the release fairlead on an API server of its own.
type helmRelease struct {
	*testing.T
	*apiserver.Server
	clients      *kube.Clients
	root, values string
}

func newRelease(t *testing.T) *helmRelease {
	t.Helper()
	if server == nil {
		t.Skip("FAIRLEAD_E2E is not 1")
	}
	r := &helmRelease{T: t, values: filepath.Join(t.TempDir(), "values.yaml")}
	var err error
	r.root, err = lab.Checkout()
	r.must("", err)
	r.Server, err = apiserver.StartBare(t.Context(), t.TempDir(), t.Output())
	r.must("", err)
	t.Cleanup(r.Stop)
	r.clients, err = kube.Connect(kube.Access{Kubeconfig: r.Kubeconfig, UserAgent: "test"})
	r.must("", err)
	return r
}

func (r *helmRelease) must(out string, err error) string {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
	return out
}

// helm runs a command with the chart and, unless addresses is empty, the pool lan.
func (r *helmRelease) helm(command, addresses string, more ...string) string {
	r.Helper()
	text := ""
	if addresses != "" {
		text = fmt.Sprintf("pools:\n  - name: lan\n    addresses: [%q]\n", addresses)
	}
	r.must("", os.WriteFile(r.values, []byte(text), 0o600))
	args := []string{command, "fairlead", filepath.Join(r.root, "charts", "fairlead"), "--namespace", release, "--values", r.values}
	return r.must(r.Server.Helm(r.Context(), append(args, more...)...))
}

// chores does once what the controller of the release does for the values. Nobody runs
// the Deployment here.
func (r *helmRelease) chores() {
	r.Helper()
	d, err := r.clients.Kube.AppsV1().Deployments(release).Get(r.Context(), "fairlead-controller", metav1.GetOptions{})
	r.must("", err)
	manifests := ""
	for _, a := range d.Spec.Template.Spec.Containers[0].Args {
		if text, ok := strings.CutPrefix(a, "--manifests="); ok {
			manifests = text
		}
	}
	// The API server may not know the kinds yet.
	r.must("", r.eventually(func() error {
		return chores.Declare(r.Context(), chores.Config{Clients: r.clients, Log: slog.New(slog.DiscardHandler), Manifests: manifests})
	}))
}

func (r *helmRelease) eventually(check func() error) error {
	var last error
	err := wait.PollUntilContextTimeout(r.Context(), 50*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		last = check()
		return last == nil, nil
	})
	return errors.Join(err, last)
}

// pool checks the addresses of the pool lan.
func (r *helmRelease) pool(want string) {
	r.Helper()
	if got := r.must(r.Kubectl(r.Context(), "get", "addresspool", "lan", "-o", "jsonpath={.spec.addresses}")); got != `["`+want+`"]` {
		r.Errorf("the pool has %s, want %s", got, want)
	}
}

func (r *helmRelease) uid() string {
	r.Helper()
	return r.must(r.Kubectl(r.Context(), "get", "addresspool", "lan", "-o", "jsonpath={.metadata.uid}"))
}

// endpoints makes the EndpointSlice of the API servers.
func (r *helmRelease) endpoints(addresses ...string) error {
	port, name := int32(6443), "https"
	_, err := r.clients.Kube.DiscoveryV1().EndpointSlices("default").Create(r.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{Addresses: addresses[:1]}, {Addresses: addresses[1:]}}, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}, metav1.CreateOptions{})
	return err
}

// TestRetire: what the release did not own can be taken out after an uninstall and not
// before. Then a Service can be deleted though no controller runs.
func TestRetire(t *testing.T) {
	c := newCluster(t)
	c.install("default")
	program, args := c.commandLine()
	p := c.ship(program, args...)
	c.pool("lan", "192.0.2.0/30")
	c.service("web")
	c.holds("web", "192.0.2.0")
	c.eventually("the keys", func() error {
		_, err := c.Kube.CoreV1().Secrets(release).Get(t.Context(), "fairlead-members", metav1.GetOptions{})
		return err
	})
	p.stop()
	c.edit("web", func(s *corev1.Service) { s.Finalizers = []string{v1alpha1.FinalizerClassless} }) // as version 0.1 did
	c.nodeState("n1")
	opt := retire.Options{Namespace: release, Lease: "fairlead-controller"}
	for _, workload := range []string{"deployment/fairlead-controller", "daemonset/fairlead-agent"} {
		r, err := retire.Cluster(t.Context(), c.Clients, opt)
		if !errors.Is(err, retire.ErrRuns) || !strings.Contains(err.Error(), "DaemonSet "+release+"/fairlead-agent") || r != (retire.Report{}) {
			t.Fatalf("while agents run: %+v, %v", r, err)
		}
		_, err = server.Kubectl(t.Context(), "-n", release, "delete", workload)
		c.must(err)
	}
	done, err := retire.Cluster(t.Context(), c.Clients, opt)
	c.must(err)
	if done != (retire.Report{Services: 1, NodeStates: 1}) {
		t.Errorf("%+v", done)
	}
	if f := c.get("web").Finalizers; len(f) != 0 {
		t.Errorf("the Service has %v", f)
	}
	if n := len(c.records()); n != 1 {
		t.Errorf("%d records are left, want 1", n)
	}
	for name, get := range map[string]func() error{
		"lease": func() error {
			_, err := c.Kube.CoordinationV1().Leases(release).Get(t.Context(), opt.Lease, metav1.GetOptions{})
			return err
		},
		"secret": func() error {
			_, err := c.Kube.CoreV1().Secrets(release).Get(t.Context(), "fairlead-members", metav1.GetOptions{})
			return err
		},
	} {
		if err := get(); !apierrors.IsNotFound(err) {
			t.Errorf("the %s is still there: %v", name, err)
		}
	}
	if r, err := retire.Cluster(t.Context(), c.Clients, opt); err != nil || r != (retire.Report{}) {
		t.Errorf("again: %+v, %v", r, err)
	}
}
