package kube

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// A lean Store leaves out what agents do not read, and nothing else.
func TestLean(t *testing.T) {
	for name, tc := range map[string]struct {
		kind   corev1.ServiceType
		labels map[string]string
		want   map[string]string
	}{
		"a LoadBalancer's labels are matched": {corev1.ServiceTypeLoadBalancer, map[string]string{"app": "web"}, map[string]string{"app": "web"}},
		"a ClusterIP's are not":               {corev1.ServiceTypeClusterIP, map[string]string{"app": "web"}, nil},
		"another proxy serves it": {
			corev1.ServiceTypeClusterIP, map[string]string{"app": "web", "service.kubernetes.io/service-proxy-name": "x"},
			map[string]string{"service.kubernetes.io/service-proxy-name": "x"},
		},
		"it is headless": {corev1.ServiceTypeNodePort, map[string]string{"service.kubernetes.io/headless": ""}, map[string]string{"service.kubernetes.io/headless": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			obj := &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web", UID: "u", Labels: tc.labels, Annotations: map[string]string{"x": "y", "fairlead.io/forwarding": "Direct"}, Finalizers: []string{"f"}},
				Spec: corev1.ServiceSpec{
					Type: tc.kind, ClusterIPs: []string{"10.96.0.9"}, Selector: map[string]string{"app": "web"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
					Ports: []corev1.ServicePort{{Name: "http", Port: 80}}, LoadBalancerSourceRanges: []string{"192.0.2.0/24"},
				},
				Status: corev1.ServiceStatus{Conditions: []metav1.Condition{{Type: "c"}}},
			}
			whole, lean := NewBuilder(), NewBuilder()
			lean.lean = true
			whole.Set(obj)
			lean.Set(obj)
			want := *whole.Snapshot().Services[0]
			got := lean.Snapshot().Services[0]
			want.Labels, want.Annotations, want.Finalizers, want.Selector, want.Families, want.Conditions = tc.want, nil, nil, nil, nil, nil
			if got.Forwarding != snapshot.Direct || !reflect.DeepEqual(*got, want) || got.Served() != whole.Snapshot().Services[0].Served() {
				t.Errorf("got %+v, want %+v", *got, want)
			}
			ref := snapshot.Ref{Namespace: "a", Name: "web"}
			if whole.Service(ref) != obj || lean.Service(ref) != nil {
				t.Errorf("the API objects are %v and %v", whole.Service(ref), lean.Service(ref))
			}
		})
	}
}

// Informers reduce an object more than once, and ask what comes of it for its name.
func TestReducedObjects(t *testing.T) {
	b := NewBuilder()
	named := metav1.ObjectMeta{Namespace: "a", Name: "x", UID: "u", ResourceVersion: "7"}
	for _, obj := range []metav1.Object{
		&corev1.Service{ObjectMeta: named}, newSlice("x", "http", 80), &corev1.Node{ObjectMeta: named},
		&v1alpha1.Address{ObjectMeta: named}, &v1alpha1.AddressPool{ObjectMeta: named}, &v1alpha1.NodeState{ObjectMeta: named},
	} {
		once := b.reduce(obj)
		if again := b.reduce(once); again != once {
			t.Errorf("%T: the second time it is %T", obj, again)
		}
		got, ok := once.(metav1.Object)
		want, _ := cache.MetaNamespaceKeyFunc(obj)
		if key, err := cache.MetaNamespaceKeyFunc(once); !ok || err != nil || key != want || got.GetUID() != obj.GetUID() || got.GetResourceVersion() != obj.GetResourceVersion() {
			t.Errorf("%T becomes %T with the key %q, %v", obj, once, key, err)
		}
	}
}
