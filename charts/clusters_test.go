package charts_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// clusterSections are the YAML blocks of docs/clusters.md, by the heading that they are below.
func clusterSections(t *testing.T) map[string][]string {
	t.Helper()
	data, err := os.ReadFile("../docs/clusters.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, section := range strings.Split(string(data), "\n### ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(text, -1) {
			found[name] = append(found[name], block[1])
		}
	}
	return found
}

// rendered is the chart with values in the order given, as a distribution gets it.
func rendered(t *testing.T, values ...string) (appsv1.DaemonSet, appsv1.Deployment) {
	t.Helper()
	args := []string{"template", "fairlead", chart, "--namespace", "fairlead-system", "--show-only", "templates/agent.yaml", "--show-only", "templates/controller.yaml"}
	for i, v := range values {
		file := filepath.Join(t.TempDir(), "values.yaml")
		if err := os.WriteFile(file, []byte(v), 0o600); err != nil {
			t.Fatal(i, err)
		}
		args = append(args, "--values", file)
	}
	objects := decode(t, documents(mustHelm(t, args...)))
	agents, controllers := pick[*appsv1.DaemonSet](objects), pick[*appsv1.Deployment](objects)
	if len(agents) != 1 || len(controllers) != 1 {
		t.Fatalf("%d DaemonSets and %d Deployments", len(agents), len(controllers))
	}
	return *agents[0], *controllers[0]
}

// TestDistributions: what docs/clusters.md says for each distribution are values of the
// chart, and do what the page says of them.
func TestDistributions(t *testing.T) {
	sections := clusterSections(t)
	const proxyOff, selinux, class = "proxy off", "SELinux", "class"
	for name, wants := range map[string][]string{
		"k3s and RKE2": {proxyOff, selinux, class},
		"OpenShift":    {proxyOff, selinux},
	} {
		var values []string
		for _, block := range sections[name] {
			if !strings.Contains(block, "\nkind: ") {
				values = append(values, block)
			}
		}
		agent, controller := rendered(t, values...)
		container := agent.Spec.Template.Spec.Containers[0]
		got := map[string]bool{
			proxyOff: flagOf(container.Args, "--proxy") == "off",
			selinux:  container.SecurityContext.SELinuxOptions != nil && container.SecurityContext.SELinuxOptions.Type == "spc_t",
			class:    slices.Contains(controller.Spec.Template.Spec.Containers[0].Args, "--default-class=false"),
		}
		for _, want := range wants {
			if !got[want] {
				t.Errorf("%s: the chart does not have %q with\n%s", name, want, strings.Join(values, "\n"))
			}
		}
	}
	agent, _ := rendered(t)
	if o := agent.Spec.Template.Spec.Containers[0].SecurityContext.SELinuxOptions; o != nil {
		t.Errorf("without values the agent has %v", o)
	}
}

// TestSecurityContextConstraints: the page binds the service accounts of both workloads, and
// the constraints that it names admit what their pods ask for.
func TestSecurityContextConstraints(t *testing.T) {
	bound := map[string]string{}
	for _, block := range clusterSections(t)["OpenShift"] {
		if !strings.Contains(block, "\nkind: ") {
			continue
		}
		for _, b := range pick[*rbacv1.RoleBinding](decode(t, documents(block))) {
			bound[b.Subjects[0].Name] = b.RoleRef.Name
			if b.Namespace != b.Subjects[0].Namespace {
				t.Errorf("%s is in %s, its account in %s", b.Name, b.Namespace, b.Subjects[0].Namespace)
			}
		}
	}
	agent, controller := rendered(t)
	for _, pod := range []corev1.PodSpec{agent.Spec.Template.Spec, controller.Spec.Template.Spec} {
		want := "system:openshift:scc:privileged"
		if nonRoot(pod) {
			want = "system:openshift:scc:nonroot-v2"
		}
		if got := bound[pod.ServiceAccountName]; got != want {
			t.Errorf("%s is bound to %q, its pod needs %q", pod.ServiceAccountName, got, want)
		}
	}
}

// nonRoot reports whether the constraint nonroot-v2 admits a pod: a user other than root, no
// capability but NET_BIND_SERVICE, and nothing of the node.
func nonRoot(pod corev1.PodSpec) bool {
	if pod.HostNetwork || pod.HostPID || pod.HostIPC || pod.SecurityContext.RunAsUser == nil || *pod.SecurityContext.RunAsUser == 0 {
		return false
	}
	for _, v := range pod.Volumes {
		if v.HostPath != nil {
			return false
		}
	}
	for _, c := range pod.Containers {
		if s := c.SecurityContext; s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || !slices.Contains(s.Capabilities.Drop, "ALL") {
			return false
		}
		for _, capability := range c.SecurityContext.Capabilities.Add {
			if capability != "NET_BIND_SERVICE" {
				return false
			}
		}
	}
	return true
}
