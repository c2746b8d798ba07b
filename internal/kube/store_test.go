package kube

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/api/v1alpha1"
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

// TestRestoredBackup: what a new list says counts, even if its resource versions are
// lower than those that are held, and what is not in it is gone.
func TestRestoredBackup(t *testing.T) {
	version := func(v, addresses string) *v1alpha1.AddressPool {
		return &v1alpha1.AddressPool{
			ObjectMeta: metav1.ObjectMeta{Name: "lan", UID: "1", ResourceVersion: v},
			Spec:       v1alpha1.AddressPoolSpec{Addresses: []string{addresses}},
		}
	}
	newer := version("20", "192.0.2.0/24")
	for _, tc := range []struct {
		name string
		do   func(*Store)
		want int // addresses of the pool
	}{
		{"a late event", func(s *Store) {
			s.Written(version("30", "192.0.2.0/25"))
			s.OnUpdate(newer, version("25", "192.0.2.0/26"))
		}, 128},
		{"a list after a restore", func(s *Store) { s.OnUpdate(newer, version("10", "192.0.2.0/26")) }, 64},
		{"a list without it", func(s *Store) {
			again := version("30", "192.0.2.0/25")
			again.UID = "2"
			s.Written(again)
			s.OnDelete(cache.DeletedFinalStateUnknown{Obj: newer})
		}, 0},
		{"a write that is answered after the end", func(s *Store) { s.OnDelete(newer); s.Written(version("30", "192.0.2.0/25")) }, 0},
		{"the end of an earlier one", func(s *Store) {
			again := version("30", "192.0.2.0/25")
			again.UID = "2"
			s.Written(again)
			s.OnDelete(newer)
		}, 128},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := NewStore(nil, func() {})
			s.synced = true
			s.OnAdd(newer, true)
			tc.do(s)
			got := 0
			if p := s.Snapshot().Pool("lan"); p != nil {
				from, to := p.Ranges[0].From().As4(), p.Ranges[0].To().As4()
				got = int(to[3]) - int(from[3]) + 1
			}
			if got != tc.want {
				t.Errorf("the pool has %d addresses, want %d", got, tc.want)
			}
		})
	}
}

// TestEndpointsWhenAPoolNeedsThem: a controller follows EndpointSlices from the moment when
// a pool gives the nodes' own addresses, and nothing is decided before they are there.
func TestEndpointsWhenAPoolNeedsThem(t *testing.T) {
	node, ready := "a", true
	port, name := int32(8080), ""
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "a", Name: "web-1", UID: "s", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.1.1.5"}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
	}
	changed := make(chan struct{}, 1000)
	s := NewStore(&Clients{Kube: fake.NewClientset(slice)}, func() { changed <- struct{}{} })
	need := make(chan struct{})
	s.need, s.synced = need, true
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer func() { cancel(); <-done }()
	go func() { defer close(done); s.followEndpoints(ctx, need) }()
	pool := func(name string, spec v1alpha1.AddressPoolSpec) any {
		return s.b.reduce(&v1alpha1.AddressPool{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}, Spec: spec})
	}
	s.OnAdd(pool("lan", v1alpha1.AddressPoolSpec{Addresses: []string{"192.0.2.0/24"}}), false)
	if s.Snapshot() == nil {
		t.Error("nothing is decided for a pool that needs no endpoints")
	}
	s.OnAdd(s.b.reduce(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web", UID: "u"}, Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.1"}, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}}}), false)
	if got := s.Snapshot().Services; len(got) != 1 || len(got[0].Endpoints) != 0 {
		t.Errorf("before a pool needs them: %v", got)
	}
	s.OnAdd(pool("edge", v1alpha1.AddressPoolSpec{NodeAddresses: &v1alpha1.NodeAddresses{}}), false)
	for s.Snapshot() == nil {
		<-changed
	}
	if got := s.Snapshot().Services; len(got) != 1 || len(got[0].Endpoints) != 1 {
		t.Errorf("afterwards: %v", got)
	}
}

// With whom a Service with policy Local shares an address depends on endpoints, and nothing
// else of Services does.
func TestServicesThatNeedEndpoints(t *testing.T) {
	b := NewBuilder()
	for name, tt := range map[string]struct {
		policy corev1.ServiceExternalTrafficPolicy
		notes  map[string]string
		want   bool
	}{
		"Local with a key":         {corev1.ServiceExternalTrafficPolicyLocal, map[string]string{v1alpha1.AnnotationShareKey: "K"}, true},
		"Local with MetalLB's key": {corev1.ServiceExternalTrafficPolicyLocal, map[string]string{v1alpha1.AnnotationMetalLBShareKey: "K"}, true},
		"Local with an empty key":  {corev1.ServiceExternalTrafficPolicyLocal, map[string]string{v1alpha1.AnnotationShareKey: " "}, false},
		"Local without a key":      {corev1.ServiceExternalTrafficPolicyLocal, nil, false},
		"Cluster with a key":       {corev1.ServiceExternalTrafficPolicyCluster, map[string]string{v1alpha1.AnnotationShareKey: "K"}, false},
	} {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web", Annotations: tt.notes}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: tt.policy}}
		if got := needsEndpoints(b.reduce(svc)); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
