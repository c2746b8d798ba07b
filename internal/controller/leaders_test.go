package controller

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/test/apitest"
)

// leaders are two controllers that both lead and see the cluster late. Their changes are
// brought to each of them kind by kind.
type leaders struct {
	*testing.T
	api      *apitest.API
	replicas [2]*modelReplica
}

func newLeaders(t *testing.T) *leaders {
	l := &leaders{T: t, api: apitest.New()}
	for i := range l.replicas {
		l.replicas[i] = newModelReplica(t, l.api)
	}
	for _, r := range l.replicas {
		r.follow()
		r.restart(allocator.Options{Class: v1alpha1.LoadBalancerClass, DefaultClass: true})
	}
	return l
}

// pool puts the pool lan. Without keeping, a freed address has no record.
func (l *leaders) pool(addresses string, keeping time.Duration) {
	auto := true
	l.api.PutPool(&v1alpha1.AddressPool{
		ObjectMeta: metav1.ObjectMeta{Name: "lan", UID: "lan"},
		Spec:       v1alpha1.AddressPoolSpec{AutoAssign: &auto, Addresses: []string{addresses}, CoolDown: &metav1.Duration{Duration: keeping}},
	})
}

// service puts a Service, or changes it.
func (l *leaders) service(name string, change func(*corev1.Service)) {
	svc := l.named(name)
	if svc == nil {
		svc = &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(time.Unix(1, 0))},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIPs: []string{"10.96.0.10"}, Ports: []corev1.ServicePort{{Port: 80}}},
		}
	}
	change(svc)
	l.api.Put(svc)
}

func (l *leaders) named(name string) *corev1.Service {
	for _, s := range l.api.Services() {
		if s.Name == name {
			return s
		}
	}
	return nil
}

func typed(kind corev1.ServiceType) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Type, s.Spec.LoadBalancerClass = kind, nil }
}

func asks(address string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Annotations = map[string]string{allocator.AnnotationAddresses: address}
	}
}

// act brings a replica all changes of kinds, or of all kinds without any, and lets it act.
func (l *leaders) act(replica int, kinds ...string) {
	l.Helper()
	r := l.replicas[replica]
	for _, k := range kinds {
		r.sees.Bring(k, 1000)
	}
	if len(kinds) == 0 {
		r.sees.BringAll()
	}
	if err := r.step(l.Context()); err != nil {
		l.Fatal(err)
	}
}

// settles lets both replicas see everything until neither writes any more.
func (l *leaders) settles() {
	l.Helper()
	for range 20 {
		if l.api.Quiet(func() error { l.act(0); l.act(1); return nil }) == nil {
			return
		}
	}
	l.Error("it does not settle")
}

// serves checks that a status names just this address, "" for none, and that what it names
// is on record for the Service.
func (l *leaders) serves(name, address string) {
	l.Helper()
	svc := l.named(name)
	got := ""
	for _, ip := range ips(svc) {
		got += ip
		if !holds(l.api, svc, ip) {
			l.Errorf("the status of %s names %s, and no record does", name, ip)
		}
	}
	if got != address {
		l.Errorf("%s has %q, want %q", name, got, address)
	}
}

// TestStaleTypeFreesNothing: a leader that still sees a Service as it was before its type
// changed takes no record from it that another leader has just made.
func TestStaleTypeFreesNothing(t *testing.T) {
	l := newLeaders(t)
	l.pool("192.0.2.0/31", 0)
	l.service("web", typed(corev1.ServiceTypeClusterIP))
	l.act(1)
	l.service("web", typed(corev1.ServiceTypeLoadBalancer))
	l.act(0)
	l.serves("web", "192.0.2.0")
	l.act(1, "addresses")
	l.serves("web", "192.0.2.0")
	l.settles()
	l.serves("web", "192.0.2.0")
}

// endUnseen has replica 1 make a record, and replica 0 free it,
// before replica 1's informer has seen either. Its new list has neither.
func (l *leaders) endUnseen() {
	l.Helper()
	l.pool("192.0.2.0/31", 0)
	l.service("web", typed(corev1.ServiceTypeLoadBalancer))
	l.act(1)
	l.serves("web", "192.0.2.0")
	l.service("web", typed(corev1.ServiceTypeClusterIP))
	l.act(0)
	l.serves("web", "")
	l.replicas[1].sees.Relist()
}

// TestRecordThatEndedUnseen: a leader gives no address by a record that ended before its
// informer saw it.
func TestRecordThatEndedUnseen(t *testing.T) {
	l := newLeaders(t)
	l.endUnseen()
	l.service("web", typed(corev1.ServiceTypeLoadBalancer))
	for _, p := range l.api.Pools() {
		l.api.DeletePool(p)
	}
	l.act(1)
	l.serves("web", "")
	l.settles()
	l.serves("web", "")
}

// TestForgetsRecordThatIsGone: a record that ended before an informer saw it is forgotten when
// it cannot be written.
func TestForgetsRecordThatIsGone(t *testing.T) {
	l := newLeaders(t)
	l.endUnseen()
	l.pool("192.0.2.0/31", time.Hour) // so that the record is written, not deleted
	l.act(1)
	if got := l.replicas[1].Store.Snapshot().Addresses; len(got) != 0 || len(l.api.Records()) != 0 {
		t.Errorf("it sees %d records, and there are %d", len(got), len(l.api.Records()))
	}
}

// TestStaleRecordIsNotNamed: a leader that still sees the record of an address that another
// leader has taken from a Service does not write that address into its status.
func TestStaleRecordIsNotNamed(t *testing.T) {
	l := newLeaders(t)
	l.pool("192.0.2.0/31", 0)
	l.service("web", asks("192.0.2.0"))
	l.act(0)
	l.act(1)
	l.service("web", asks("192.0.2.1"))
	l.act(0)
	l.serves("web", "192.0.2.1")
	l.service("other", asks("192.0.2.0"))
	l.act(0)
	l.serves("other", "192.0.2.0")
	l.service("web", asks("192.0.2.0"))
	l.act(1, "services")
	l.serves("web", "192.0.2.1")
	l.settles()
	l.serves("web", "192.0.2.1")
	l.serves("other", "192.0.2.0")
}

// TestFinalizerOfAClass: Kubernetes' own finalizer stays on a Service that has got a class
// before a controller saw it without one. A cloud's service controller may have put it there,
// and takes it away when the Service is deleted.
func TestFinalizerOfAClass(t *testing.T) {
	for _, class := range []string{v1alpha1.LoadBalancerClass, "example.org/lb"} {
		l := newLeaders(t)
		l.pool("192.0.2.0/31", 0)
		l.service("web", typed(corev1.ServiceTypeLoadBalancer))
		l.settles()
		l.serves("web", "192.0.2.0")
		l.service("web", func(s *corev1.Service) {
			s.Finalizers, s.Spec.LoadBalancerClass = []string{v1alpha1.FinalizerClassless, v1alpha1.FinalizerClassed}, &class
		})
		l.api.Delete(l.named("web"))
		l.settles()
		l.serves("web", "")
		if got := l.named("web"); len(got.Status.Conditions) != 0 || !slices.Equal(got.Finalizers, []string{v1alpha1.FinalizerClassless}) {
			t.Errorf("class %s: finalizers %v, conditions %v", class, got.Finalizers, got.Status.Conditions)
		}
	}
}

// TestPoolThatWasMadeAgain: what was decided about a pool is not written into another one that
// has its name now, nor is that one taken in before its informer has seen it.
func TestPoolThatWasMadeAgain(t *testing.T) {
	l := newLeaders(t)
	l.pool("192.0.2.0/31", 0)
	l.replicas[0].sees.BringAll()
	l.api.DeletePool(l.api.Pools()[0])
	l.api.PutPool(&v1alpha1.AddressPool{ObjectMeta: metav1.ObjectMeta{Name: "lan", UID: "again"}, Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"192.0.2.8/32"}}})
	l.act(0, "services")
	if got := l.api.Pools()[0].Status.IPv4.Total; got != 0 {
		t.Errorf("it says that it has %d addresses, before it was seen", got)
	}
	l.settles()
	if got := l.api.Pools()[0].Status.IPv4.Total; got != 1 {
		t.Errorf("it says that it has %d addresses, want 1", got)
	}
}
