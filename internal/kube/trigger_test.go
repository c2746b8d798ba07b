package kube

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Triggers come once, with the value that they changed; a slice that is written
// again and says the same neither triggers nor makes a new value.
func TestTriggers(t *testing.T) {
	b := NewBuilder()
	version := 0
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	write := func(after time.Duration, addr string) {
		version++
		sl := &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "a", Name: "web-1", UID: "s", ResourceVersion: fmt.Sprint(version), Labels: map[string]string{discoveryv1.LabelServiceName: "web"},
				Annotations: map[string]string{corev1.EndpointsLastChangeTriggerTime: start.Add(after).Format(time.RFC3339Nano)},
			},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{addr}}},
			Ports:     []discoveryv1.EndpointPort{{Name: new(string), Port: new(int32(80))}},
		}
		if !b.Set(sl) {
			t.Fatal("the slice was passed over")
		}
	}
	want := func(what string, times ...time.Duration) {
		t.Helper()
		b.Snapshot()
		got := b.Triggers()
		if len(got) != len(times) {
			t.Fatalf("%s: got %v", what, got)
		}
		for i, d := range times {
			if !got[i].Equal(start.Add(d)) {
				t.Errorf("%s: got %v", what, got)
			}
		}
	}
	b.Set(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web", UID: "u", ResourceVersion: "1"}})
	write(time.Second, "10.1.1.5")
	want("the first endpoint", time.Second)
	want("nothing since")
	before := b.Snapshot().Services[0]
	write(2*time.Second, "10.1.1.5")
	want("the same again")
	if b.Snapshot().Services[0] != before {
		t.Error("a slice that says the same made another value")
	}
	write(3*time.Second, "10.1.1.6")
	write(4*time.Second, "10.1.1.7")
	want("two writes, one Snapshot", 3*time.Second, 4*time.Second)
	for i := range 2 * mostTriggers {
		write(time.Duration(i), fmt.Sprintf("10.2.%d.%d", i/250, i%250+1))
		b.Snapshot()
	}
	if n := len(b.Triggers()); n != mostTriggers {
		t.Errorf("kept %d, want %d", n, mostTriggers)
	}
}
