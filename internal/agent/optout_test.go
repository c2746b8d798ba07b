package agent

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// TestOptedOut: a pod's label goes before its namespace's, and a static pod is
// known by what the kubelet calls it.
func TestOptedOut(t *testing.T) {
	off, on := map[string]string{accelerateLabel: "off"}, map[string]string{accelerateLabel: "auto"}
	s := &snapshot.Snapshot{Namespaces: []*snapshot.Namespace{{Name: "mesh", Labels: off}, {Name: "plain"}}}
	var pods []any
	add := func(namespace, uid string, labels map[string]string, change ...func(*corev1.Pod)) {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, UID: types.UID(uid), Labels: labels}}
		for _, c := range change {
			c(p)
		}
		kept, err := trimPod(p)
		if err != nil {
			t.Fatal(err)
		}
		pods = append(pods, kept)
	}
	add("mesh", "4", nil)
	add("mesh", "in-again", on)
	add("plain", "stays", nil)
	add("plain", "3", off)
	add("unknown", "2", off)
	add("plain", "done", off, func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
	add("plain", "mirror", off, func(p *corev1.Pod) { p.Annotations = map[string]string{staticPodUID: "1"} })
	if got, want := optedOut(pods, s), []string{"1", "2", "3", "4"}; !slices.Equal(got, want) {
		t.Errorf("opted out: %v, want %v", got, want)
	}
}
