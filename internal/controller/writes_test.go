package controller

import (
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

var (
	ip1 = netip.MustParseAddr("192.0.2.1")
	ip2 = netip.MustParseAddr("192.0.2.2")
	web = snapshot.Ref{Namespace: "a", Name: "web"}
	db  = snapshot.Ref{Namespace: "a", Name: "db"}
)

func holder(ref snapshot.Ref, ports ...uint16) snapshot.Holder {
	h := snapshot.Holder{Ref: ref, UID: "uid-" + ref.Name}
	for _, p := range ports {
		h.Ports = append(h.Ports, snapshot.HeldPort{Protocol: snapshot.TCP, Port: p})
	}
	return h
}

func TestRecordWrites(t *testing.T) {
	have := func(addr netip.Addr, holders ...snapshot.Holder) *snapshot.Address {
		return &snapshot.Address{Addr: addr, Pool: "lan", UID: "u", ResourceVersion: "7", Holders: holders}
	}
	want := func(addr netip.Addr, holders ...snapshot.Holder) allocator.AddressWant {
		return allocator.AddressWant{Addr: addr, Pool: "lan", Holders: holders}
	}
	for _, tc := range []struct {
		name string
		have []*snapshot.Address
		want []allocator.AddressWant
		op   string // of ip1: create, update, delete or ""
		lost int
	}{
		{"new", nil, []allocator.AddressWant{want(ip1, holder(web, 80))}, "create", 0},
		{"same", []*snapshot.Address{have(ip1, holder(web, 80))}, []allocator.AddressWant{want(ip1, holder(web, 80))}, "", 0},
		{"port changed", []*snapshot.Address{have(ip1, holder(web, 80))}, []allocator.AddressWant{want(ip1, holder(web, 81))}, "update", 0},
		{"sharer added", []*snapshot.Address{have(ip1, holder(web, 80))}, []allocator.AddressWant{want(ip1, holder(db, 81), holder(web, 80))}, "update", 0},
		{"taken from another", []*snapshot.Address{have(ip1, holder(web, 80))}, []allocator.AddressWant{want(ip1, holder(db, 81))}, "update", 1},
		{"not wanted", []*snapshot.Address{have(ip1, holder(web, 80))}, nil, "delete", 1},
		{"already going", []*snapshot.Address{{Addr: ip1, Deleting: true}}, nil, "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, ok := recordWrites(&allocator.Plan{Addresses: tc.want}, &snapshot.Snapshot{Addresses: tc.have})[ip1]
			op := ""
			switch {
			case ok && w.want == nil:
				op = "delete"
			case ok && w.have == nil:
				op = "create"
			case ok:
				op = "update"
			}
			if op != tc.op || len(w.losers) != tc.lost {
				t.Errorf("write %q with %d losers, want %q with %d", op, len(w.losers), tc.op, tc.lost)
			}
		})
	}
}

func TestToClean(t *testing.T) {
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
		{"a foreign class's", snapshot.Service{Type: snapshot.LoadBalancer, Class: "other.io/lb", Deleting: true, Finalizers: []string{v1alpha1.FinalizerClassless}, Conditions: marked}, false},
		{"somebody else's finalizer, not marked by us", snapshot.Service{Type: snapshot.ClusterIP, Finalizers: []string{v1alpha1.FinalizerClassless}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.svc.Ref, tc.svc.ClusterIPs = web, []netip.Addr{ip1}
			s := &snapshot.Snapshot{Services: []*snapshot.Service{&tc.svc}}
			got := toClean(s, allocator.Options{Class: "fairlead.io/lb", DefaultClass: true})
			if (len(got) == 1) != tc.want {
				t.Errorf("toClean() = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestAnnounced(t *testing.T) {
	by := announcers(&snapshot.Snapshot{NodeStates: []*snapshot.NodeState{
		{Node: "n1", Announces: []snapshot.Announced{{Addr: ip1, Link: "eth0", MAC: "02:00:00:00:00:01"}}},
		{Node: "n2"},
	}})
	if c := announced(by, []netip.Addr{ip1}); c.Status != "True" || c.Message != "192.0.2.1 by n1 on eth0 (02:00:00:00:00:01)" {
		t.Errorf("one announcer: %+v", c)
	}
	if c := announced(by, []netip.Addr{ip1, ip2}); c.Status != "False" || c.Reason != "NotAnnounced" || c.Message != "no node announces 192.0.2.2" {
		t.Errorf("half announced: %+v", c)
	}
}

func TestWantStatus(t *testing.T) {
	fresh := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web"}}
	loud := snapshot.Condition{Status: "True", Reason: "Announced", Message: "by n1"}
	given := allocator.Outcome{Ref: web, Addrs: []netip.Addr{ip1}, Pool: "lan"}
	reasons := func(events []news) (out []string) {
		for _, e := range events {
			out = append(out, e.kind+" "+e.reason)
		}
		return out
	}

	svc, changed, events := wantStatus(fresh, given, loud)
	if !changed || !slices.Equal(reasons(events), []string{"Normal EnsuredLoadBalancer"}) {
		t.Errorf("first address: changed=%v events=%v", changed, events)
	}
	in := svc.Status.LoadBalancer.Ingress
	if len(in) != 1 || in[0].IP != "192.0.2.1" || in[0].IPMode == nil || *in[0].IPMode != corev1.LoadBalancerIPModeVIP {
		t.Errorf("ingress %+v", in)
	}
	if len(fresh.Status.LoadBalancer.Ingress) != 0 {
		t.Error("the given object was changed")
	}
	if _, changed, events = wantStatus(svc, given, loud); changed || events != nil {
		t.Errorf("the same again: changed=%v events=%v", changed, events)
	}

	wiped := svc.DeepCopy()
	wiped.Status.LoadBalancer = corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "203.0.113.9"}, {Hostname: "x"}}}
	if got, changed, _ := wantStatus(wiped, given, loud); !changed || len(got.Status.LoadBalancer.Ingress) != 1 || got.Status.LoadBalancer.Ingress[0].IP != "192.0.2.1" {
		t.Errorf("an edited status is not repaired: %+v", got.Status.LoadBalancer)
	}

	full := allocator.Outcome{Ref: web, Refusal: &snapshot.Refusal{Reason: allocator.PoolExhausted, Message: "no free address"}}
	refused, _, events := wantStatus(fresh, full, loud)
	if !slices.Equal(reasons(events), []string{"Warning PoolExhausted"}) {
		t.Errorf("a refusal's events: %v", events)
	}
	if c := meta.FindStatusCondition(refused.Status.Conditions, v1alpha1.ConditionAddressAssigned); c == nil || c.Status != metav1.ConditionFalse || c.Reason != "PoolExhausted" {
		t.Errorf("a refusal's condition: %+v", c)
	}
	if _, changed, events = wantStatus(refused, full, loud); changed || events != nil {
		t.Errorf("the same refusal again: changed=%v events=%v", changed, events)
	}

	keeps := given
	keeps.Kept, keeps.Refusal = true, &snapshot.Refusal{Reason: allocator.AddressInUse, Message: "192.0.2.2 is held by a/db"}
	got, _, events := wantStatus(svc, keeps, loud)
	if len(got.Status.LoadBalancer.Ingress) != 1 || !slices.Equal(reasons(events), []string{"Warning AddressInUse"}) {
		t.Errorf("a refused change: ingress %v, events %v", got.Status.LoadBalancer.Ingress, events)
	}

	nopool := allocator.Outcome{Ref: web, Refusal: &snapshot.Refusal{Reason: allocator.NoPool, Message: "there is no pool"}}
	if _, _, events = wantStatus(fresh, nopool, loud); !slices.Equal(reasons(events), []string{"Normal NoPool"}) {
		t.Errorf("no pool is normal: %v", events)
	}
	taken := fresh.DeepCopy()
	taken.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.7"}}
	if got, _, _ := wantStatus(taken, nopool, loud); len(got.Status.LoadBalancer.Ingress) != 1 {
		t.Error("an address from an earlier controller is dropped before the first pool is there")
	}
}
