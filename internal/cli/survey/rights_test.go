package survey

import (
	"slices"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// Who lacks one right sees all but what it is the right to see, and is told.
func TestOnly(t *testing.T) {
	var o Objects
	for _, obj := range []struct{ version, kind, namespace, name string }{
		{"v1", "Service", "shop", "web"}, {"v1", "Node", "", "a"}, {"v1", "Namespace", "", "shop"}, {"v1", "Pod", "fairlead-system", "agent"},
		{"discovery.k8s.io/v1", "EndpointSlice", "shop", "web"}, {"networking.k8s.io/v1", "ServiceCIDR", "", "kubernetes"},
		{"apps/v1", "DaemonSet", "x", "y"}, {"apps/v1", "Deployment", "x", "y"},
		{"fairlead.io/v1alpha1", "AddressPool", "", "lan"}, {"fairlead.io/v1alpha1", "Address", "", "192.0.2.1"}, {"fairlead.io/v1alpha1", "Announcement", "", "all"},
		{"fairlead.io/v1alpha1", "NodeState", "", "a"}, {"fairlead.io/v1alpha1", "BGPPeer", "", "router"},
		{"v1", "ConfigMap", "kube-system", "kube-proxy"}, {"v1", "ConfigMap", "fairlead-system", "fairlead-history"},
		{"coordination.k8s.io/v1", "Lease", "fairlead-system", "fairlead-controller"},
	} {
		u := &unstructured.Unstructured{}
		u.SetAPIVersion(obj.version)
		u.SetKind(obj.kind)
		u.SetNamespace(obj.namespace)
		u.SetName(obj.name)
		if err := o.add(u); err != nil {
			t.Fatal(err)
		}
	}
	asked := Accesses(DefaultNamespace)
	if len(asked) != len(o.All) {
		t.Fatalf("%d accesses for %d objects", len(asked), len(o.All))
	}
	if got := o.Only(asked, asked); len(got.All) != len(o.All) || len(got.Gaps) != 0 {
		t.Errorf("who may everything sees %d of %d, and lacks %v", len(got.All), len(o.All), got.Gaps)
	}
	if got := o.Only(asked, nil); len(got.All) != 0 || len(got.Gaps) != len(asked) {
		t.Errorf("who may nothing sees %v", got.All)
	}
	for i, a := range asked {
		got := o.Only(asked, slices.Delete(slices.Clone(asked), i, i+1))
		if len(got.All) != len(o.All)-1 || len(got.Gaps) != 1 || got.Gaps[0].What != a.Resource {
			t.Errorf("without %v: %d of %d objects, %v", a, len(got.All), len(o.All), got.Gaps)
		}
		if slices.ContainsFunc(got.All, func(obj runtime.Object) bool { return covered(obj, []Access{a}) }) {
			t.Errorf("without %v its object is seen", a)
		}
	}
	// Nobody asked about these: a Secret, a Lease and a ConfigMap of others.
	for _, obj := range []runtime.Object{
		&corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}}, &v1alpha1.AddressPool{},
		&coordinationv1.Lease{TypeMeta: metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"}, ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "fairlead-controller"}},
		&corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "kube-proxy"}},
	} {
		if covered(obj, asked) {
			t.Errorf("%T is seen", obj)
		}
	}
}
