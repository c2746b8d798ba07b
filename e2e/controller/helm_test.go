package controller_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/e2e/apiserver"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/internal/job/retire"
	"github.com/fairlead/fairlead/internal/job/seed"
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
	for _, name := range []string{"fairlead-test", "lb-test"} { // a pod is refused without its account
		_, err := c.Kube.CoreV1().ServiceAccounts(release).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		c.must(err)
		t.Cleanup(func() {
			c.must(c.Kube.CoreV1().ServiceAccounts(release).Delete(context.Background(), name, metav1.DeleteOptions{}))
		})
	}
	files, err := filepath.Glob(filepath.Join(root, "charts", "testdata", "*.values.yaml"))
	c.must(err)
	if len(files) != 7 {
		t.Fatalf("%d value sets, want 7", len(files))
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
// its kinds, with pools in the values, upgrades it, and uninstalls it; pools and
// CRDs stay, and the next install goes on with them.
func TestHelm(t *testing.T) {
	if server == nil {
		t.Skip("FAIRLEAD_E2E is not 1")
	}
	must := func(_ string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := apiserver.StartBare(t.Context(), t.TempDir(), t.Output())
	must("", err)
	defer s.Stop()
	root, err := lab.Checkout()
	must("", err)
	values := filepath.Join(t.TempDir(), "values.yaml")
	helm := func(addresses string, args ...string) string {
		t.Helper()
		text := fmt.Sprintf("api: {host: 192.0.2.11}\npools:\n  - name: lan\n    addresses: [%q]\n", addresses)
		must("", os.WriteFile(values, []byte(text), 0o600))
		out, err := s.Helm(t.Context(), append(args, "fairlead", filepath.Join(root, "charts", "fairlead"), "--namespace", release, "--values", values)...)
		must(out, err)
		return out
	}
	pool := func(want string) (uid string) {
		t.Helper()
		out, err := s.Kubectl(t.Context(), "get", "addresspool", "lan", "-o", "jsonpath={.spec.addresses} {.metadata.uid}")
		must(out, err)
		got, uid, _ := strings.Cut(out, " ")
		if got != `["`+want+`"]` {
			t.Errorf("the pool has %s, want %s", got, want)
		}
		return uid
	}
	job := helm("192.0.2.0/28", "template", "--show-only", "templates/pools.yaml")
	if notes := helm("192.0.2.0/28", "install", "--create-namespace", "--no-hooks"); !strings.Contains(notes, "lan  192.0.2.0/28") {
		t.Errorf("the notes do not show the pool:\n%s", notes)
	}
	clients, err := kube.Connect(kube.Access{Kubeconfig: s.Kubeconfig, UserAgent: "test"})
	must("", err)
	for range 2 { // the second time it is there
		_, err = seed.Apply(t.Context(), clients, manifests(t, job), time.Minute)
		must("", err)
	}
	first := pool("192.0.2.0/28")
	helm("192.0.2.0/27", "upgrade")
	if pool("192.0.2.0/27") != first {
		t.Error("the upgrade made the pool anew")
	}
	// Nobody would run the Job.
	must(s.Helm(t.Context(), "uninstall", "fairlead", "--namespace", release, "--no-hooks"))
	pool("192.0.2.0/27")
	left, err := s.Kubectl(t.Context(), "get", "clusterroles,clusterrolebindings,crds,namespaces", "-A", "-l", "app.kubernetes.io/part-of=fairlead", "-o", "name")
	must(left, err)
	if n := strings.Count(left, "customresourcedefinition"); n != 5 || strings.Count(left, "\n") != n {
		t.Errorf("after the uninstall:\n%s", left)
	}
	must(s.Kubectl(t.Context(), "-n", release, "get", "all,sa,roles,rolebindings", "-l", "app.kubernetes.io/part-of=fairlead"))
	helm("192.0.2.0/26", "install")
	if pool("192.0.2.0/26") != first {
		t.Error("the second install made the pool anew")
	}
}

// manifests are what the job that makes pools is given.
func manifests(t *testing.T, rendered string) []byte {
	t.Helper()
	_, rendered, _ = strings.Cut(rendered, "kind: Job\n")
	var job batchv1.Job
	if err := yaml.Unmarshal([]byte(rendered), &job); err != nil || len(job.Spec.Template.Spec.Containers) != 1 {
		t.Fatalf("%v in\n%s", err, rendered)
	}
	for _, a := range job.Spec.Template.Spec.Containers[0].Args {
		if text, ok := strings.CutPrefix(a, "--manifests="); ok {
			return []byte(text)
		}
	}
	t.Fatalf("no manifests in\n%s", rendered)
	return nil
}

// TestRetire: after an uninstall, with the rights of its hook, what the release
// did not own is gone, and a Service can be deleted though no controller runs.
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
	kubeconfig, servers := c.identity("fairlead-uninstall")
	clients, err := kube.Connect(kube.Access{Kubeconfig: kubeconfig, Servers: servers, UserAgent: "test"})
	c.must(err)
	opt := retire.Options{Namespace: release, Lease: "fairlead-controller"}
	var done retire.Report
	c.eventually("the end of it", func() error { // the first API server of the list does not answer
		r, err := retire.Cluster(t.Context(), clients, opt)
		done.Services += r.Services
		done.NodeStates += r.NodeStates
		return err
	})
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
