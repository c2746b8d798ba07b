package manifest

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1unstructured "k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

func unstructured(obj map[string]any) *metav1unstructured.Unstructured {
	return &metav1unstructured.Unstructured{Object: obj}
}

// refused returns what the API server would refuse of obj: the mistakes that people
// make.
func refused(obj runtime.Object) []string {
	switch obj := obj.(type) {
	case *corev1.Service:
		return service(obj)
	case *v1alpha1.AddressPool:
		return pool(obj)
	case *v1alpha1.Announcement:
		return announcement(obj)
	case *v1alpha1.BGPPeer:
		return peer(obj)
	}
	return nil
}

func service(svc *corev1.Service) (out []string) {
	type port struct {
		protocol corev1.Protocol
		number   int32
	}
	seen, names := map[port]bool{}, map[string]bool{}
	for i, p := range svc.Spec.Ports {
		if p.Protocol == "" {
			p.Protocol = corev1.ProtocolTCP
		}
		switch key := (port{p.Protocol, p.Port}); {
		case p.Port < 1 || p.Port > 65535:
			out = append(out, fmt.Sprintf("spec.ports[%d].port: %d is not between 1 and 65535", i, p.Port))
		case seen[key]:
			out = append(out, fmt.Sprintf("spec.ports[%d]: %s %d appears twice", i, p.Protocol, p.Port))
		default:
			seen[key] = true
		}
		switch {
		case p.Name == "" && len(svc.Spec.Ports) > 1:
			out = append(out, fmt.Sprintf("spec.ports[%d].name: each of several ports needs a name", i))
		case p.Name != "" && names[p.Name]:
			out = append(out, fmt.Sprintf("spec.ports[%d].name: %s appears twice", i, p.Name))
		}
		names[p.Name] = true
	}
	if len(svc.Spec.Ports) == 0 && svc.Spec.ClusterIP != corev1.ClusterIPNone && svc.Spec.Type != corev1.ServiceTypeExternalName {
		out = append(out, "spec.ports: a Service needs a port")
	}
	return out
}
