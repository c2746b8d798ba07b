package survey

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Redacted stands for a value that was taken out.
const Redacted = "(taken out)"

// Support returns copies of what a helper needs. It leaves out Services that are not
// reached from outside, foreign workloads, and values that may be secret.
func (o *Objects) Support() []runtime.Object {
	outside := map[string]bool{}
	for _, obj := range o.All {
		if s, ok := obj.(*corev1.Service); ok && s.Spec.Type == corev1.ServiceTypeLoadBalancer {
			outside[s.Namespace+"/"+s.Name] = true
		}
	}
	var out []runtime.Object
	for _, obj := range o.All {
		switch obj := obj.(type) {
		case *corev1.Service:
			if !outside[obj.Namespace+"/"+obj.Name] {
				continue
			}
		case *discoveryv1.EndpointSlice:
			if !outside[obj.Namespace+"/"+obj.Labels[discoveryv1.LabelServiceName]] {
				continue
			}
		case *appsv1.Deployment, *appsv1.DaemonSet, *corev1.Namespace, *corev1.ConfigMap:
			continue
		}
		out = append(out, redact(obj.DeepCopyObject()))
	}
	return out
}

// kept are the beginnings of annotations whose values matter here and are no
// secrets.
var kept = []string{"fairlead.io/", "metallb.io/", "metallb.universe.tf/", "endpoints.kubernetes.io/", "node.kubernetes.io/"}

func redact(obj runtime.Object) runtime.Object {
	if m, ok := obj.(metav1.Object); ok {
		notes := m.GetAnnotations()
		for k := range notes {
			if !slices.ContainsFunc(kept, func(p string) bool { return strings.HasPrefix(k, p) }) {
				notes[k] = Redacted
			}
		}
		m.SetAnnotations(notes)
	}
	if p, ok := obj.(*corev1.Pod); ok {
		for i := range p.Spec.Containers {
			redactEnv(p.Spec.Containers[i].Env)
		}
		for i := range p.Spec.InitContainers {
			redactEnv(p.Spec.InitContainers[i].Env)
		}
	}
	return obj
}

func redactEnv(env []corev1.EnvVar) {
	for i := range env {
		if env[i].Value != "" {
			env[i].Value = Redacted
		}
	}
}
