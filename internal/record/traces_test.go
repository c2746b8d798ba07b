package record

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

func TestTraces(t *testing.T) {
	marked := map[string]snapshot.Condition{v1alpha1.ConditionAddressAssigned: {Status: "True"}}
	for _, tc := range []struct {
		name string
		svc  snapshot.Service
		want bool
	}{
		{"ours and well", snapshot.Service{Type: snapshot.LoadBalancer, Finalizers: []string{v1alpha1.FinalizerClassless}, Conditions: marked}, false},
		{"deleted, class-less", snapshot.Service{Type: snapshot.LoadBalancer, Deleting: true, Finalizers: []string{v1alpha1.FinalizerClassless}, Conditions: marked}, true},
		{"deleted, classed", snapshot.Service{Type: snapshot.LoadBalancer, Class: "fairlead.io/lb", Deleting: true, Finalizers: []string{v1alpha1.FinalizerClassed}}, true},
		{"another type now", snapshot.Service{Type: snapshot.ClusterIP, Finalizers: []string{v1alpha1.FinalizerClassless}, Conditions: marked}, true},
		{"another type now, from our class", snapshot.Service{Type: snapshot.ClusterIP, Finalizers: []string{v1alpha1.FinalizerClassed}}, true},
		{"never ours", snapshot.Service{Type: snapshot.ClusterIP}, false},
		{"a foreign class's now, and marked by us", snapshot.Service{Type: snapshot.LoadBalancer, Class: "other.io/lb", Deleting: true, Finalizers: []string{v1alpha1.FinalizerClassless}, Conditions: marked}, true},
		{"without a class, which is not ours any more", snapshot.Service{Type: snapshot.LoadBalancer, Conditions: marked}, true},
		{"a foreign class's", snapshot.Service{Type: snapshot.LoadBalancer, Class: "other.io/lb"}, false},
		{"somebody else's finalizer, not marked by us", snapshot.Service{Type: snapshot.ClusterIP, Finalizers: []string{v1alpha1.FinalizerClassless}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.svc.Ref, tc.svc.ClusterIPs = snapshot.Ref{Namespace: "a", Name: "web"}, []netip.Addr{netip.MustParseAddr("192.0.2.1")}
			s := &snapshot.Snapshot{Services: []*snapshot.Service{&tc.svc}}
			got := Traces(s, allocator.Options{Class: "fairlead.io/lb", DefaultClass: !strings.Contains(tc.name, "not ours any more")})
			if (len(got) == 1) != tc.want {
				t.Errorf("Traces() = %v, want %v", got, tc.want)
			}
		})
	}
}
