package nodes

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func nodeAt(name string, labelled bool, addrs ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if labelled {
		n.Labels = map[string]string{Label: ""}
	}
	for _, a := range addrs {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	return n
}

// The control-plane nodes are told as they are, and again when one joins.
func TestFollow(t *testing.T) {
	client := fake.NewClientset(nodeAt("b", true, "2001:db8::2", "192.0.2.2"), nodeAt("a", true, "192.0.2.1", "192.0.2.9"), nodeAt("worker", false, "192.0.2.5"), nodeAt("new", true))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := make(chan []netip.Addr, 100)
	done := make(chan error, 1)
	go func() {
		done <- Follow(ctx, client, netip.MustParseAddr("192.0.2.1"), func(all []netip.Addr) { told <- all })
	}()
	wait := func(want string) {
		t.Helper()
		limit := time.After(time.Minute)
		for last := ""; last != want; {
			select {
			case all := <-told:
				last = fmt.Sprint(all)
			case <-limit:
				t.Fatalf("told %s, want %s", last, want)
			}
		}
	}
	wait("[192.0.2.1 192.0.2.2]")
	if _, err := client.CoreV1().Nodes().Create(ctx, nodeAt("c", true, "192.0.2.3"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	wait("[192.0.2.1 192.0.2.2 192.0.2.3]")
	if err := client.CoreV1().Nodes().Delete(ctx, "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	wait("[192.0.2.1 192.0.2.3]")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
