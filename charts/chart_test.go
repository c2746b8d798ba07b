// Package charts_test renders the chart with the pinned helm and checks what
// comes out: against golden files, against Kubernetes' own types, and against
// what the chart promises (narrow roles, hardened pods). Accept changes with
//
//	go test ./charts -update
package charts_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

var update = flag.Bool("update", false, "write golden files and the README's table")

const chart = "fairlead" // the tests run in charts/

// goldenSets are the value sets whose whole render is a golden file: what a user
// gets who sets nothing, and one that sets most values.
var goldenSets = []string{"default", "guest"}

// helmPath builds the pinned helm, or finds it in Go's build cache.
var helmPath = sync.OnceValues(func() (string, error) {
	if err := readInputs(); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "tool", "-n", "-modfile=internal/tools/go.mod", "helm")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", &helmError{"build helm", stderr.String(), err}
	}
	return strings.TrimSpace(string(out)), nil
})

// readInputs opens what helm will read. Go caches a test's result until a file
// that the test itself opened changes, and knows nothing of helm's.
func readInputs() error {
	if _, err := os.ReadFile("../internal/tools/go.mod"); err != nil {
		return err
	}
	for _, dir := range []string{chart, "testdata"} {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				_, err = os.ReadFile(path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

type helmError struct {
	doing, stderr string
	err           error
}

func (e *helmError) Error() string { return e.doing + ": " + e.err.Error() + "\n" + e.stderr }

// helm runs helm without any cluster and without the caller's configuration.
func helm(t testing.TB, args ...string) (string, error) {
	t.Helper()
	path, err := helmPath()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "KUBECONFIG=/dev/null", "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), &helmError{"helm " + strings.Join(args, " "), stderr.String(), err}
	}
	return stdout.String(), nil
}

func mustHelm(t testing.TB, args ...string) string {
	t.Helper()
	out, err := helm(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// valueSets returns the names of testdata/NAME.values.yaml.
func valueSets(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no value sets: %v", err)
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".values.yaml")
	}
	return files
}

func valuesFile(set string) string { return filepath.Join("testdata", set+".values.yaml") }

// render returns the CRDs of a value set, and all other manifests, in order.
func render(t testing.TB, set string) (crds, others []string) {
	t.Helper()
	out := mustHelm(t, "template", "fairlead", chart, "--namespace", "fairlead-system", "--values", valuesFile(set))
	for _, doc := range documents(out) {
		if strings.HasPrefix(doc, "# Source: fairlead/templates/crds.yaml\n") {
			crds = append(crds, doc)
			continue
		}
		others = append(others, doc)
	}
	return crds, others
}

// documents splits YAML.
func documents(text string) (out []string) {
	for _, doc := range regexp.MustCompile(`(?m)^---\n`).Split(text, -1) {
		if doc = strings.TrimSpace(doc) + "\n"; doc != "\n" {
			out = append(out, doc)
		}
	}
	return out
}

func TestLint(t *testing.T) {
	for _, set := range valueSets(t) {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			mustHelm(t, "lint", "--strict", chart, "--values", valuesFile(set))
		})
	}
}

// TestGolden compares two whole renders; changes_test.go has the others.
func TestGolden(t *testing.T) {
	for _, set := range goldenSets {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			_, docs := render(t, set)
			golden(t, set+".golden.yaml", "---\n"+strings.Join(docs, "---\n"))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (accept it with -update): %s", path, firstDifference(got, string(want)))
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return "got " + g[i] + "\nwant " + w[i]
		}
	}
	return "one is longer than the other"
}

// TestCRDs: the template adds labels and the keep policy, and nothing else.
func TestCRDs(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(chart, "files/crds/*.yaml"))
	if err != nil || len(files) != 5 {
		t.Fatalf("%d CRDs in the chart, want 5: %v", len(files), err)
	}
	for _, set := range valueSets(t) {
		want := 5
		if set == "guest" { // crds.install is false
			want = 0
		}
		docs, _ := render(t, set)
		if len(docs) != want {
			t.Errorf("%s: %d CRDs, want %d", set, len(docs), want)
			continue
		}
		for _, doc := range docs {
			var got, source apiextensionsv1.CustomResourceDefinition
			unmarshal(t, doc, &got)
			if keep := got.Annotations["helm.sh/resource-policy"]; keep != "keep" {
				t.Errorf("%s: policy of %s is %q", set, got.Name, keep)
			}
			if got.Labels["app.kubernetes.io/managed-by"] != "Helm" {
				t.Errorf("%s: labels of %s: %v", set, got.Name, got.Labels)
			}
			data, err := os.ReadFile(filepath.Join(chart, "files/crds/fairlead.io_"+got.Spec.Names.Plural+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			unmarshal(t, string(data), &source)
			delete(got.Annotations, "helm.sh/resource-policy")
			got.Labels = nil
			if !equality.Semantic.DeepEqual(got, source) {
				t.Errorf("%s: %s is not what was generated", set, got.Name)
			}
		}
	}
}

func unmarshal(t testing.TB, doc string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(doc), into); err != nil {
		t.Fatalf("%v in:\n%s", err, doc)
	}
}

// decode reads manifests as the API server does, refusing fields that
// Kubernetes does not know.
func decode(t testing.TB, docs []string) []runtime.Object {
	t.Helper()
	decoder := serializer.NewCodecFactory(scheme(t), serializer.EnableStrict).UniversalDeserializer()
	var objects []runtime.Object
	for _, doc := range docs {
		obj, _, err := decoder.Decode([]byte(doc), nil, nil)
		if err != nil {
			t.Fatalf("%v in:\n%s", err, doc)
		}
		objects = append(objects, obj)
	}
	return objects
}

// scheme knows the kinds that the chart renders, but for CRDs.
func scheme(t testing.TB) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	if err := errors.Join(clientscheme.AddToScheme(s), v1alpha1.AddToScheme(s), monitoringv1.AddToScheme(s)); err != nil {
		t.Fatal(err)
	}
	return s
}

// pick returns the objects of type T.
func pick[T runtime.Object](objects []runtime.Object) (found []T) {
	for _, o := range objects {
		if o, ok := o.(T); ok {
			found = append(found, o)
		}
	}
	return found
}

func TestObjects(t *testing.T) {
	for _, set := range valueSets(t) {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			_, docs := render(t, set)
			objects := decode(t, docs)
			checkNames(t, objects)
			checkRoles(t, objects)
			checkSelectors(t, objects)
			checkPods(t, objects)
		})
	}
}

func checkNames(t *testing.T, objects []runtime.Object) {
	t.Helper()
	seen := map[string]bool{}
	for _, o := range objects {
		m, err := meta.Accessor(o)
		if err != nil {
			t.Fatal(err)
		}
		id := o.GetObjectKind().GroupVersionKind().Kind + "/" + m.GetNamespace() + "/" + m.GetName()
		if seen[id] {
			t.Errorf("%s is rendered twice", id)
		}
		seen[id] = true
		if m.GetLabels()["app.kubernetes.io/part-of"] != "fairlead" {
			t.Errorf("%s has labels %v", id, m.GetLabels())
		}
		switch o.(type) {
		case *rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding, *corev1.Namespace, *admissionv1.ValidatingAdmissionPolicy, *admissionv1.ValidatingAdmissionPolicyBinding,
			*v1alpha1.AddressPool, *v1alpha1.Announcement, *v1alpha1.BGPPeer:
		default:
			if m.GetNamespace() != "fairlead-system" && !looks(o, m) {
				t.Errorf("%s is in namespace %q", id, m.GetNamespace())
			}
		}
	}
}

// looks reports whether o is the role by which agents or the page look for other proxies,
// or its binding: get, of objects by name.
func looks(o runtime.Object, m metav1.Object) bool {
	if m.GetNamespace() != "kube-system" || !strings.HasSuffix(m.GetName(), "-agent") && !strings.HasSuffix(m.GetName(), "-controller") {
		return false
	}
	switch o := o.(type) {
	case *rbacv1.RoleBinding:
		return o.RoleRef.Kind == "Role"
	case *rbacv1.Role:
		return !slices.ContainsFunc(o.Rules, func(r rbacv1.PolicyRule) bool {
			return !slices.Equal(r.Verbs, []string{"get"}) || len(r.ResourceNames) != 1
		})
	}
	return false
}

// checkRoles: nothing by wildcard, no Secret, nothing that gives more rights;
// the agent writes NodeStates alone.
func checkRoles(t *testing.T, objects []runtime.Object) {
	t.Helper()
	forbidden := []string{"*", "secrets", "pods", "pods/exec", "configmaps", "roles", "clusterroles", "serviceaccounts", "serviceaccounts/token", "escalate", "bind", "impersonate", "deletecollection"}
	for _, role := range pick[*rbacv1.ClusterRole](objects) {
		if checkPeople(t, role) {
			continue
		}
		for _, rule := range role.Rules {
			for _, word := range slices.Concat(rule.APIGroups, rule.Resources, rule.Verbs) {
				if slices.Contains(forbidden, word) && !listsPods(role, rule) {
					t.Errorf("%s may do %v on %v", role.Name, rule.Verbs, rule.Resources)
				}
			}
			writes := slices.ContainsFunc(rule.Verbs, func(v string) bool { return !slices.Contains([]string{"get", "list", "watch"}, v) })
			if writes && strings.HasSuffix(role.Name, "-agent") {
				for _, r := range rule.Resources {
					if r != "nodestates" && r != "nodestates/status" {
						t.Errorf("%s may %v %s", role.Name, rule.Verbs, r)
					}
				}
			}
		}
	}
	accounts := map[string]bool{}
	for _, a := range pick[*corev1.ServiceAccount](objects) {
		accounts[a.Name] = true
	}
	for _, b := range pick[*rbacv1.ClusterRoleBinding](objects) {
		role := strings.Replace(b.Subjects[0].Name, "-test", "-support", 1) // who tests looks as people do
		if len(b.Subjects) != 1 || !accounts[b.Subjects[0].Name] || b.RoleRef.Name != role {
			t.Errorf("%s binds %v to %v", b.Name, b.RoleRef, b.Subjects)
		}
	}
}

// checkPeople: what people may be given reads no Secret and writes nothing but,
// for -admin, the three kinds that are theirs. It reports whether role is one of
// those.
func checkPeople(t *testing.T, role *rbacv1.ClusterRole) bool {
	t.Helper()
	suffix := role.Name[strings.LastIndex(role.Name, "-"):]
	if !slices.Contains([]string{"-view", "-admin", "-support"}, suffix) {
		return false
	}
	theirs := map[string][]string{
		"-admin":   {"addresspools", "announcements", "bgppeers"},
		"-support": {"subjectaccessreviews"}, // a question, not a change
	}[suffix]
	for _, rule := range role.Rules {
		for _, r := range rule.Resources {
			writes := slices.ContainsFunc(rule.Verbs, func(v string) bool { return !slices.Contains([]string{"get", "list", "watch"}, v) })
			if r == "secrets" || r == "*" || writes && !slices.Contains(theirs, r) {
				t.Errorf("%s may do %v on %s", role.Name, rule.Verbs, r)
			}
		}
	}
	return true
}

func checkSelectors(t *testing.T, objects []runtime.Object) {
	t.Helper()
	controller, agent := pick[*appsv1.Deployment](objects)[0], pick[*appsv1.DaemonSet](objects)[0]
	pods := []labels.Set{controller.Spec.Template.Labels, agent.Spec.Template.Labels}
	matches := func(name string, s *metav1.LabelSelector) {
		selector, err := metav1.LabelSelectorAsSelector(s)
		if err != nil {
			t.Fatal(err)
		}
		for i, component := range []string{"-controller", "-agent"} {
			if got, want := selector.Matches(pods[i]), strings.Contains(name, component); got != want {
				t.Errorf("%s selects the pods of %s: %v", name, component, got)
			}
		}
	}
	matches(controller.Name, controller.Spec.Selector)
	matches(agent.Name, agent.Spec.Selector)
	for _, s := range pick[*corev1.Service](objects) {
		matches(s.Name, &metav1.LabelSelector{MatchLabels: s.Spec.Selector})
	}
	for _, p := range pick[*policyv1.PodDisruptionBudget](objects) {
		matches(p.Name, p.Spec.Selector)
	}
	if want := *controller.Spec.Replicas > 1; want != (len(pick[*policyv1.PodDisruptionBudget](objects)) == 1) {
		t.Errorf("a PodDisruptionBudget with %d replicas: %v", *controller.Spec.Replicas, !want)
	}
}

// checkPods: what both pods must hold to, whatever the values.
func checkPods(t *testing.T, objects []runtime.Object) {
	t.Helper()
	controller, agent := pick[*appsv1.Deployment](objects)[0].Spec.Template.Spec, pick[*appsv1.DaemonSet](objects)[0].Spec.Template.Spec
	for _, pod := range []corev1.PodSpec{controller, agent} {
		c := pod.Containers[0]
		s := c.SecurityContext
		if len(pod.Containers) != 1 || len(pod.InitContainers) != 0 {
			t.Errorf("%s has other containers", c.Name)
		}
		if !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
			t.Errorf("%s is not hardened: %v", c.Name, s)
		}
		if pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s has seccomp profile %v", c.Name, pod.SecurityContext.SeccompProfile)
		}
		if pod.HostPID || pod.HostIPC || *pod.EnableServiceLinks {
			t.Errorf("%s sees more than it needs", c.Name)
		}
		want := "/fairlead " + c.Name
		if c.Name == "ccm" { // a program of its own, without commands
			want = "/fairlead-ccm --"
		}
		if !strings.HasPrefix(strings.Join(slices.Concat(c.Command, c.Args), " "), want) {
			t.Errorf("%s runs %v %v", c.Name, c.Command, c.Args)
		}
		if c.ReadinessProbe == nil || c.LivenessProbe == nil {
			t.Errorf("%s lacks a probe", c.Name)
		}
	}
	if !*controller.SecurityContext.RunAsNonRoot || controller.HostNetwork || len(controller.Volumes) != 0 || len(controller.Containers[0].SecurityContext.Capabilities.Add) != 0 {
		t.Errorf("the controller has rights that it does not need")
	}
	if got := agent.Containers[0].SecurityContext.Capabilities.Add; !slices.Equal(got, agentCapabilities(agent.Containers[0])) {
		t.Errorf("the agent's capabilities are %v", got)
	}
	if *agent.SecurityContext.RunAsUser != 0 {
		t.Error("the agent is not UID 0: its capabilities are void")
	}
	if !agent.HostNetwork || agent.DNSPolicy != corev1.DNSDefault || agent.Containers[0].StartupProbe == nil {
		t.Error("the agent is not in the node's network with the node's resolver and a startup probe")
	}
}

// TestSchema: a misspelt or impossible value is refused, with its name.
func TestSchema(t *testing.T) {
	for _, tt := range []struct{ set, want string }{
		{"agnt.proxy=off", "agnt"},
		{"agent.proxyforce=true", "proxyforce"},
		{"image.tag=a b", "tag"},
		{"metrics.agent.port=metrics", "port"},
		{"metrics.dashboards.enable=true", "enable"},
		{"image.digest=sha256:12", "digest"},
		{"image.pullPolicy=Sometimes", "pullPolicy"},
		{"api.port=0", "port"},
		{"api.host=https://192.0.2.1", "host"},
		{"api.servers[0]=192.0.2.1:6443", "servers"},
		{"logLevel=chatty", "logLevel"},
		{"loadBalancerClass=", "loadBalancerClass"},
		{"defaultClass=maybe", "defaultClass"},
		{"agent.healthPort=70000", "healthPort"},
		{"agent.updateStrategy.rollingUpdate.maxSurge=1", "maxSurge"},
		{"controller.replicas=-1", "replicas"},
		{"controller.mode=cloud", "mode"},
		{"controller.tolerations[0].operater=Exists", "operater"},
		{"controller.page.host=a", "host"},
		{"controller.page.hosts[0]=https://a", "hosts"},
		{"controller.page.certificate=A/b", "certificate"},
		{"imagePullSecrets[0]=pull", "imagePullSecrets"},
	} {
		t.Run(tt.set, func(t *testing.T) {
			t.Parallel()
			_, err := helm(t, "template", "fairlead", chart, "--set", tt.set)
			if err == nil {
				t.Fatalf("%s is taken", tt.set)
			}
			if !strings.Contains(err.Error(), "values don't meet the specifications of the schema") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s is refused with: %v", tt.set, err)
			}
		})
	}
}

func TestNames(t *testing.T) {
	for release, want := range map[string]string{"fairlead": "fairlead-controller", "my-fairlead": "my-fairlead-controller", "lb": "lb-fairlead-controller"} {
		out := mustHelm(t, "template", release, chart, "--show-only", "templates/controller.yaml")
		if !strings.Contains(out, "\n  name: "+want+"\n") {
			t.Errorf("release %s has no Deployment %s", release, want)
		}
	}
}

// TestCCM: what a cloud controller manager cannot serve is refused at once.
func TestCCM(t *testing.T) {
	_, err := helm(t, "template", "fairlead", chart, "--set", "controller.mode=ccm,defaultClass=false")
	if err == nil || !strings.Contains(err.Error(), "needs defaultClass") {
		t.Errorf("mode ccm without the default class: %v", err)
	}
	_, err = helm(t, "template", "fairlead", chart, "--set", "controller.initializeNodes=true")
	if err == nil || !strings.Contains(err.Error(), "needs controller.mode ccm") {
		t.Errorf("Nodes initialised by fairlead's own controller: %v", err)
	}
	_, err = helm(t, "template", "fairlead", chart, "--set", "controller.mode=ccm,controller.page.enabled=true")
	if err == nil || !strings.Contains(err.Error(), "needs controller.mode controller") {
		t.Errorf("mode ccm with the page: %v", err)
	}
}

func TestOldKubernetes(t *testing.T) {
	if _, err := helm(t, "template", "fairlead", chart, "--kube-version", "1.28.15"); err == nil {
		t.Error("Kubernetes 1.28 is taken")
	}
	mustHelm(t, "template", "fairlead", chart, "--kube-version", "1.29.0-gke.1")
}

// TestNotes: the notes ask for nothing that fairlead finds by itself, and hold a pool
// that the API takes.
func TestNotes(t *testing.T) {
	notes := func(set string) string {
		_, after, found := strings.Cut(mustHelm(t, "install", "fairlead", chart, "--namespace", "fairlead-system", "--dry-run=client", "--values", valuesFile(set)), "\nNOTES:\n")
		if !found {
			t.Fatalf("%s has no notes", set)
		}
		return after
	}
	got := notes("default")
	if want := "rollout status deployment/fairlead-controller daemonset/fairlead-agent"; !strings.Contains(got, want) {
		t.Errorf("the notes lack %q:\n%s", want, got)
	}
	for _, old := range []string{"api.host", "kubectl label", "!"} {
		if strings.Contains(got, old) {
			t.Errorf("the notes ask for %q:\n%s", old, got)
		}
	}
	_, manifest, _ := strings.Cut(got, "<<EOF\n")
	manifest, _, _ = strings.Cut(manifest, "     EOF\n")
	var pool v1alpha1.AddressPool
	unmarshal(t, manifest, &pool)
	if pool.Kind != "AddressPool" || len(pool.Spec.Addresses) == 0 {
		t.Errorf("the notes' pool is %+v", pool)
	}
	if got := notes("guest"); !strings.Contains(got, "lan  192.0.2.200-192.0.2.250, 2001:db8::/112") || !strings.Contains(got, "example.com/second") {
		t.Errorf("the guest's notes:\n%s", got)
	}
}

// TestNoHooks: what is rendered without a cluster can be applied as it is, again and
// again: nothing in it runs once, or undoes anything.
func TestNoHooks(t *testing.T) {
	for _, set := range valueSets(t) {
		crds, docs := render(t, set)
		for _, doc := range slices.Concat(crds, docs) {
			if strings.Contains(doc, "helm.sh/hook") || strings.Contains(doc, "\nkind: Job\n") || strings.Contains(doc, "\nkind: Pod\n") {
				t.Errorf("%s renders\n%s", set, doc)
			}
		}
	}
}

// TestFollowed: who follows a kind may, and nobody else. The controller follows
// EndpointSlices if a pool gives the nodes' own addresses.
func TestFollowed(t *testing.T) {
	both := []string{"addresses", "addresspools", "announcements", "bgppeers", "endpointslices", "namespaces", "nodes", "nodestates", "servicecidrs", "services"}
	_, docs := render(t, "default")
	roles := map[string][]rbacv1.PolicyRule{}
	for _, r := range pick[*rbacv1.ClusterRole](decode(t, docs)) {
		roles[r.Name] = r.Rules
	}
	for role, want := range map[string][]string{"fairlead-controller": both, "fairlead-agent": both} {
		var got []string
		for _, rule := range roles[role] {
			if slices.Contains(rule.Verbs, "watch") {
				got = append(got, rule.Resources...)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s may watch %v\nwant %v", role, got, want)
		}
	}
}

// TestOwnNamespace: the controller may change one namespace, its own.
func TestOwnNamespace(t *testing.T) {
	for _, namespace := range []string{"fairlead-system", "lb"} {
		out := mustHelm(t, "template", "fairlead", chart, "--namespace", namespace, "--show-only", "templates/rbac-controller.yaml")
		var found []rbacv1.PolicyRule
		for _, rule := range rulesOf[*rbacv1.ClusterRole](decode(t, documents(out))) {
			if slices.Contains(rule.Resources, "namespaces") && slices.Contains(rule.Verbs, "patch") {
				found = append(found, rule)
			}
		}
		if len(found) != 1 || !slices.Equal(found[0].ResourceNames, []string{namespace}) || len(found[0].Verbs) != 1 || len(found[0].Resources) != 1 {
			t.Errorf("in %s the controller may %+v", namespace, found)
		}
	}
}

func rulesOf[T runtime.Object](objects []runtime.Object) (rules []rbacv1.PolicyRule) {
	for _, o := range pick[T](objects) {
		switch r := any(o).(type) {
		case *rbacv1.ClusterRole:
			rules = append(rules, r.Rules...)
		case *rbacv1.Role:
			rules = append(rules, r.Rules...)
		}
	}
	return rules
}

func flagOf(args []string, name string) string {
	for _, a := range args {
		if v, ok := strings.CutPrefix(a, name+"="); ok {
			return v
		}
	}
	return ""
}

// TestAPIServers: what the values say of the API server is given to both workloads as
// candidates, and changes nothing else.
func TestAPIServers(t *testing.T) {
	for set, want := range map[string]string{
		"logLevel=info":                    "",
		"api.host=192.0.2.11":              "https://192.0.2.11:6443",
		"api.host=2001:db8::11":            "https://[2001:db8::11]:6443",
		"api.host=localhost,api.port=7445": "https://localhost:7445",
		"api.host=lb,api.servers={https://192.0.2.11:6443,https://lb:6443}": "https://lb:6443,https://192.0.2.11:6443",
	} {
		out := mustHelm(t, "template", "fairlead", chart, "--set", set)
		if strings.Contains(out, "KUBERNETES_SERVICE") {
			t.Errorf("%s: the pods do not know the ClusterIP any more", set)
		}
		var controller appsv1.Deployment
		var agent appsv1.DaemonSet
		for _, o := range decode(t, documents(mustHelm(t, "template", "fairlead", chart, "--set", set, "--show-only", "templates/controller.yaml", "--show-only", "templates/agent.yaml"))) {
			switch o := o.(type) {
			case *appsv1.Deployment:
				controller = *o
			case *appsv1.DaemonSet:
				agent = *o
			}
		}
		for _, pod := range []corev1.PodSpec{controller.Spec.Template.Spec, agent.Spec.Template.Spec} {
			if got := flagOf(pod.Containers[0].Args, "--api-servers"); got != want {
				t.Errorf("%s: %s gets %q, want %q", set, pod.Containers[0].Name, got, want)
			}
		}
	}
}

// TestPoolsOfNodes: a pool of the values has addresses or gives those of the nodes.
func TestPoolsOfNodes(t *testing.T) {
	for pool, ok := range map[string]bool{
		`"nodeAddresses": {}`: true, `"addresses": ["192.0.2.1"]`: true,
		`"addresses": ["192.0.2.1"], "nodeAddresses": {}`: false, `"autoAssign": false`: false,
	} {
		out, err := helm(t, "template", "fairlead", chart, "--set-json", `pools=[{"name": "p", `+pool+`}]`, "--show-only", "templates/controller.yaml")
		if (err == nil) != ok {
			t.Errorf("%s: %v\n%s", pool, err, out)
		}
	}
}

// TestDeclared: pools of the values are the controller's to make, whichever it is.
func TestDeclared(t *testing.T) {
	for _, mode := range []string{"controller", "ccm"} {
		out := mustHelm(t, "template", "fairlead", chart, "--values", valuesFile("guest"), "--set", "controller.mode="+mode+",defaultClass=true", "--show-only", "templates/controller.yaml")
		d := pick[*appsv1.Deployment](decode(t, documents(out)))[0]
		objects := decode(t, documents(flagOf(d.Spec.Template.Spec.Containers[0].Args, "--manifests")))
		pools, peers := pick[*v1alpha1.AddressPool](objects), pick[*v1alpha1.BGPPeer](objects)
		if len(objects) != 3 || len(pools) != 1 || pools[0].Name != "lan" || len(pools[0].Spec.Addresses) != 2 || len(peers) != 1 || peers[0].Spec.PeerASN != 64511 {
			t.Errorf("the values make %v", objects)
		}
		for _, o := range objects {
			m, err := meta.Accessor(o)
			if err != nil || m.GetLabels()["fairlead.io/declared"] != "true" || m.GetAnnotations()["meta.helm.sh/release-name"] != "fairlead" {
				t.Errorf("%s has %v %v", m.GetName(), m.GetLabels(), m.GetAnnotations())
			}
		}
	}
}
