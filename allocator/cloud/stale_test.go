package cloud

import (
	"log/slog"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/test/apitest"
)

// TestStaleRecordIsNotGiven: an address whose record another leader has freed, which is not
// seen here, is not given by that record.
func TestStaleRecordIsNotGiven(t *testing.T) {
	server := apitest.New()
	p := New(Config{Clients: server.Clients, Log: slog.New(slog.DiscardHandler)})
	server.Store = p.store
	server.Start(t)
	server.Store = nil
	sees := server.Follow(p.store)
	server.PutPool(&v1alpha1.AddressPool{ObjectMeta: metav1.ObjectMeta{Name: "lan", UID: "lan"}, Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"192.0.2.0/32"}}})
	server.Put(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web", UID: "web"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIPs: []string{"10.96.0.10"}, Ports: []corev1.ServicePort{{Port: 80}}},
	})
	sees.BringAll()
	ensure := func() error {
		_, err := balancer{p}.EnsureLoadBalancer(t.Context(), "kubernetes", server.Services()[0], nil)
		return err
	}
	if err := ensure(); err != nil {
		t.Fatal(err)
	}
	if err := server.Connect(nil).Addresses.Delete(t.Context(), server.Records()[0].Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := ensure(); !apierrors.IsConflict(err) {
		t.Errorf("by the record that is gone: %v, want a conflict", err)
	}
	if err := ensure(); err != nil || len(server.Records()) != 1 {
		t.Errorf("afterwards: %v, and %d records, want 1", err, len(server.Records()))
	}
}
