package apitest

import (
	"fmt"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
)

// TestWritersAtOnce: the clients of every kind may write at once, also those of two connections.
func TestWritersAtOnce(t *testing.T) {
	a := New()
	const each = 8
	var writers sync.WaitGroup
	for i, c := range []*kube.Clients{a.Clients, a.Connect(nil)} {
		create(t, &writers, each, c.Pools, func(n int) Pool { return &v1alpha1.AddressPool{ObjectMeta: named(i, n)} })
		create(t, &writers, each, c.Addresses, func(n int) Record { return &v1alpha1.Address{ObjectMeta: named(i, n)} })
		create(t, &writers, each, c.Announcements, func(n int) *v1alpha1.Announcement { return &v1alpha1.Announcement{ObjectMeta: named(i, n)} })
		create(t, &writers, each, c.NodeStates, func(n int) nodeState { return &v1alpha1.NodeState{ObjectMeta: named(i, n)} })
		create(t, &writers, each, c.BGPPeers, func(n int) *v1alpha1.BGPPeer { return &v1alpha1.BGPPeer{ObjectMeta: named(i, n)} })
	}
	writers.Wait()
	if want := 2 * 5 * each; a.version != want {
		t.Errorf("%d writes are counted, want %d", a.version, want)
	}
	if _, err := a.Connect(nil).BGPPeers.Get(t.Context(), "0-0", metav1.GetOptions{}); err != nil {
		t.Errorf("what one connection wrote, another does not see: %v", err)
	}
}

func named(connection, n int) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: fmt.Sprintf("%d-%d", connection, n)}
}

func create[T object[T], L any](t *testing.T, writers *sync.WaitGroup, each int, kind kube.Objects[T, L], made func(int) T) {
	for n := range each {
		writers.Go(func() {
			if _, err := kind.Create(t.Context(), made(n), metav1.CreateOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}
