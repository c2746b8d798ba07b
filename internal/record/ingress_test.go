package record

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/allocator"
)

// An API server before Kubernetes 1.30 stores no ipMode: what it gives back is
// what is asked for next, or every look at the Service would be a write.
func TestIngressAsksNotForWhatTheAPIServerDrops(t *testing.T) {
	vip, proxy := corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy
	for _, one := range []struct {
		name string
		was  []corev1.LoadBalancerIngress
		want *corev1.LoadBalancerIPMode
	}{
		{"new", nil, &vip},
		{"another address", []corev1.LoadBalancerIngress{{IP: "192.0.2.9"}}, &vip},
		{"dropped", []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}, nil},
		{"stored", []corev1.LoadBalancerIngress{{IP: "192.0.2.1", IPMode: &vip}}, &vip},
		{"changed by somebody", []corev1.LoadBalancerIngress{{IP: "192.0.2.1", IPMode: &proxy}}, &vip},
	} {
		svc := &corev1.Service{}
		svc.Status.LoadBalancer.Ingress = one.was
		got := Ingress(allocator.Outcome{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}, svc)
		if len(got) != 1 || (got[0].IPMode == nil) != (one.want == nil) || one.want != nil && *got[0].IPMode != *one.want {
			t.Errorf("%s: %+v", one.name, got)
		}
	}
}
