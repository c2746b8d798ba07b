package charts_test

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// agentCapabilities are those that an agent needs for what its flags ask for.
func agentCapabilities(c corev1.Container) []corev1.Capability {
	want := []corev1.Capability{"NET_ADMIN", "NET_RAW", "SYS_NICE", "SETUID", "SETGID", "KILL"}
	if slices.Contains(c.Args, "--accelerate=auto") {
		want = append(want, "BPF")
		if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "netns" }) {
			want = append(want, "SYS_ADMIN")
		}
	}
	if slices.Contains(c.Args, "--director=auto") {
		want = append(want, "BPF", "SYS_ADMIN")
	}
	return want
}

// listsPods reports whether a rule lets an agent that uses eBPF list pods, and no
// more.
func listsPods(role *rbacv1.ClusterRole, rule rbacv1.PolicyRule) bool {
	return strings.HasSuffix(role.Name, "-agent") && slices.Equal(rule.Resources, []string{"pods"}) && slices.Equal(rule.Verbs, []string{"list", "watch"})
}
