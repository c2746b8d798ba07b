package kube

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// spec 89: nothing can be acted on before everything was listed once, Services
// and EndpointSlices among it.
func TestNothingBeforeTheFirstListing(t *testing.T) {
	changes := 0
	s := NewStore(nil, func() { changes++ })
	s.OnAdd(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web", UID: "u", ResourceVersion: "1"}}, true)
	if got, _ := s.Latest(); got != nil || s.Snapshot() != nil || changes != 0 {
		t.Errorf("a Snapshot of a part of the cluster: %v; told %d times", got, changes)
	}
	s.synced = true // as Run does when every informer has
	got, _ := s.Latest()
	if got == nil || len(got.Services) != 1 {
		t.Errorf("after the listing: %v", got)
	}
}
