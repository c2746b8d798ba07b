package survey

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairlead/fairlead/internal/cli/cluster"
)

// A mesh or an operator puts its container before fairlead's. What a pod runs, with which
// flags and ports, is read of fairlead's own.
func TestContainerOfOthersFirst(t *testing.T) {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{componentLabel: "controller"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{
			{Name: "mesh", Image: "mesh:1", Args: []string{"--class=mesh"}, Ports: []corev1.ContainerPort{{Name: "health", ContainerPort: 1}}},
			{Name: "ccm", Image: "fairlead:1", Args: []string{"--class=ours"}, Ports: []corev1.ContainerPort{{Name: "health", ContainerPort: 2}}},
		}},
	}
	var s cluster.State
	flags(&s, p)
	if got := pod(p); got.Image != "fairlead:1" || got.Health != 2 || s.Allocation.Class != "ours" {
		t.Errorf("image %s, port %d, class %s", got.Image, got.Health, s.Allocation.Class)
	}
	if mode := (&Objects{All: []runtime.Object{p}}).mode(); mode != "ccm" {
		t.Errorf("the mode is %s", mode)
	}
	p.Spec.Containers = nil // as of a manifest that lacks them
	if mode := (&Objects{All: []runtime.Object{p}}).mode(); mode != "controller" || pod(p).Image != "" {
		t.Errorf("without a container the mode is %s", mode)
	}
}
