package kube

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// heap is how many bytes are in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A tenant writes annotations as long as the API server takes. Those that fairlead reads are
// held, and of one that is too long so much that it is refused.
func TestAttackByAnnotations(t *testing.T) {
	const services, each = 1000, 200 << 10
	b := NewBuilder()
	before := heap()
	for i := range services {
		svc := newService(fmt.Sprint("s", i), "1", "10.96.0.1")
		svc.Annotations = map[string]string{
			"example.com/large": strings.Repeat("x", each), allocator.AnnotationPool: "lan", allocator.AnnotationAddresses: strings.Repeat("y", 2*allocator.LongestAnnotation),
		}
		b.Set(svc)
	}
	got := b.Snapshot().Services[0].Annotations
	grown := heap() - before
	t.Logf("attack: %d Services with %d KiB of annotations each: %d MiB are held", services, each>>10, grown>>20)
	if grown > 20<<20 {
		t.Errorf("%d MiB are held", grown>>20)
	}
	if got[allocator.AnnotationPool] != "lan" || len(got[allocator.AnnotationAddresses]) != allocator.LongestAnnotation+1 {
		t.Errorf("the Snapshot has %d annotations, and %d bytes of the long one", len(got), len(got[allocator.AnnotationAddresses]))
	}
	runtime.KeepAlive(b)
}

// The status of a Service whose annotations are not all held is written, and they stay.
func TestUpdateServiceStatusKeepsAnnotations(t *testing.T) {
	svc := newService("web", "1", "10.96.0.1")
	svc.Annotations = map[string]string{"example.com/large": strings.Repeat("x", mostNotes), allocator.AnnotationPool: "lan"}
	kube := fake.NewClientset(svc)
	c := &Clients{Kube: kube}
	b := NewBuilder()
	b.Set(svc)
	b.Snapshot()
	want := b.Service(snapshot.Ref{Namespace: svc.Namespace, Name: svc.Name}).DeepCopy()
	want.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	if len(want.Annotations["example.com/large"]) > 0 {
		t.Fatal("the annotation is held")
	}
	got, err := c.UpdateServiceStatus(t.Context(), want)
	if err != nil || len(got.Annotations) != 2 || len(got.Annotations["example.com/large"]) != mostNotes || len(got.Status.LoadBalancer.Ingress) != 1 {
		t.Errorf("%v: %v", err, got)
	}
	want.ResourceVersion = "another"
	if _, err := c.UpdateServiceStatus(t.Context(), want); err == nil {
		t.Error("a Service that has changed is written")
	}
}

// A Service has as many large EndpointSlices as its owner likes. Some of them are read.
func TestAttackBySlices(t *testing.T) {
	const slices, ports, pods = 100, 30, 1000
	svc, parts := wide("large", ports, slices, pods, never)
	b := NewBuilder()
	b.Set(svc)
	before, began := heap(), time.Now()
	for _, sl := range parts {
		b.Set(sl)
	}
	n := len(b.Snapshot().Services[0].Endpoints)
	took, grown := time.Since(began), heap()-before
	t.Logf("attack: %d slices of %d pods and %d ports: %d endpoints, %d MiB more than the slices, in %s", slices, pods, ports, n, grown>>20, took.Round(time.Millisecond))
	if n > mostEndpoints || grown > 64<<20 {
		t.Errorf("%d endpoints, %d MiB", n, grown>>20)
	}
	runtime.KeepAlive(parts)
	runtime.KeepAlive(b)
}

// inNamespace makes Services of one port with so many pods each, the oldest first.
func inNamespace(b *Builder, namespace string, services, pods int) {
	for i := range services {
		svc, parts := wide(fmt.Sprintf("s%03d", i), 1, 1, pods, never)
		svc.Namespace, svc.UID = namespace, uidOf(namespace+svc.Name)
		svc.CreationTimestamp = metav1.Unix(int64(1000+i), 0)
		parts[0].Namespace = namespace
		b.Set(svc)
		b.Set(parts[0])
	}
}

// served counts the Services of a namespace that have endpoints, and those that are told
// that there is no room for theirs.
func served(s *snapshot.Snapshot, namespace string) (with, told int) {
	for _, svc := range s.Services {
		if svc.Namespace == namespace && len(svc.Endpoints) > 0 {
			with++
		}
		if svc.Namespace == namespace && svc.LeftOut == snapshot.NoRoom {
			told++
		}
	}
	return with, told
}

// As long as there is room, a namespace has any number of endpoints. If there is not, the
// youngest Services of a namespace that has more than half of it have none, and those of
// others notice nothing.
func TestAttackByANamespace(t *testing.T) {
	b := NewBuilder()
	b.room.most = 1000
	inNamespace(b, "a", 40, 10)
	inNamespace(b, "tenant", 60, 10)
	expect := func(what string, with, told int) {
		t.Helper()
		s := b.Snapshot()
		if w, x := served(s, "tenant"); w != with || x != told {
			t.Errorf("%s: the tenant has %d Services with endpoints, and %d that are told, want %d and %d", what, w, x, with, told)
		}
		if w, x := served(s, "a"); w != 40 || x != 0 {
			t.Errorf("%s: the other has %d and %d", what, w, x)
		}
	}
	expect("there is room for all", 60, 0)
	inNamespace(b, "tenant", 200, 10)
	expect("there is not", 50, 150)
	with, told := served(b.last, "tenant")
	t.Logf("attack: 200 Services of a namespace: %d of them have endpoints, and %d are told that there is no room", with, told)
	if s := b.last.Service(snapshot.Ref{Namespace: "tenant", Name: "s049"}); len(s.Endpoints) != 10 {
		t.Error("the oldest Services are not those that have endpoints")
	}
	for i := range 100 {
		svc := newService(fmt.Sprintf("s%03d", i), "2", "10.96.0.1")
		svc.Namespace, svc.UID = "tenant", uidOf("tenant"+svc.Name)
		b.Remove(svc)
	}
	expect("others are left", 50, 50)
	for i := range 40 {
		svc := newService(fmt.Sprintf("s%03d", 100+i), "2", "10.96.0.1")
		svc.Namespace, svc.UID = "tenant", uidOf("tenant"+svc.Name)
		b.Remove(svc)
	}
	expect("there is room again", 60, 0)
}
