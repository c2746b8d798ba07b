package selftest

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// A Service that nobody serves: the step that failed is named with what its
// condition says, it is explained, and the Service does not stay.
func TestNobodyServes(t *testing.T) {
	api := fake.NewClientset()
	api.PrependReactor("create", "services", func(a clienttesting.Action) (bool, runtime.Object, error) {
		svc := a.(clienttesting.CreateAction).GetObject().(*corev1.Service)
		svc.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAddressAssigned, Status: metav1.ConditionFalse, Reason: "NoPool", Message: "there is no AddressPool"}}
		return false, nil, nil
	})
	var out bytes.Buffer
	explained := false
	err := Run(t.Context(), Options{
		Kube: api, Namespace: "sys", Service: "test", Selector: map[string]string{"a": "b"}, Word: "pod", Port: 80,
		Timeout: 300 * time.Millisecond, Out: &out, Why: func(context.Context) { explained = true },
	})
	const want = "waited 300ms for it to get an address: condition fairlead.io/AddressAssigned: NoPool: there is no AddressPool"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if !explained || !strings.HasSuffix(out.String(), "Service sys/test is gone\n") {
		t.Errorf("explained %v:\n%s", explained, &out)
	}
	if _, err := api.CoreV1().Services("sys").Get(t.Context(), "test", metav1.GetOptions{}); err == nil {
		t.Error("the Service stayed")
	}
}
