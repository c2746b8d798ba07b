package controller

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

var (
	ip1 = netip.MustParseAddr("192.0.2.1")
	web = snapshot.Ref{Namespace: "a", Name: "web"}
)

// began is when every status is written.
var began = time.Unix(1_000_000, 0)

func TestWantStatus(t *testing.T) {
	fresh := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web"}}
	loud := snapshot.Condition{Status: "True", Reason: "Announced", Message: "by n1"}
	given := allocator.Outcome{Ref: web, Addrs: []netip.Addr{ip1}, Pool: "lan"}
	reasons := func(events []event) (out []string) {
		for _, e := range events {
			out = append(out, e.kind+" "+e.reason)
		}
		return out
	}

	svc, changed, events := wantStatus(fresh, given, loud, began)
	if !changed || !slices.Equal(reasons(events), []string{"Normal EnsuredLoadBalancer", "Normal Announced"}) {
		t.Errorf("first address: changed=%v events=%v", changed, events)
	}
	in := svc.Status.LoadBalancer.Ingress
	if len(in) != 1 || in[0].IP != "192.0.2.1" || in[0].IPMode == nil || *in[0].IPMode != corev1.LoadBalancerIPModeVIP {
		t.Errorf("ingress %+v", in)
	}
	if len(fresh.Status.LoadBalancer.Ingress) != 0 {
		t.Error("the given object was changed")
	}
	if _, changed, events = wantStatus(svc, given, loud, began); changed || events != nil {
		t.Errorf("the same again: changed=%v events=%v", changed, events)
	}

	moved, changed, events := wantStatus(svc, given, snapshot.Condition{Status: "True", Reason: "Announced", Message: "by n2"}, began)
	if !changed || !slices.Equal(reasons(events), []string{"Normal Announced"}) || events[0].message != "by n2" {
		t.Errorf("another owner: changed=%v events=%v", changed, events)
	}
	if _, _, events = wantStatus(moved, given, snapshot.Condition{Status: "False", Reason: "NotAnnounced", Message: "no node"}, began); !slices.Equal(reasons(events), []string{"Warning NotAnnounced"}) {
		t.Errorf("nobody any more: events=%v", events)
	}

	// Version 0.1.0 had the time in the message: it moves, and nobody is told again.
	earlier := moved.DeepCopy()
	meta.FindStatusCondition(earlier.Status.Conditions, v1alpha1.ConditionAnnounced).Message += " since 1970-01-12T13:46:40Z"
	upgraded, changed, events := wantStatus(earlier, given, snapshot.Condition{Status: "True", Reason: "Announced", Message: "by n2"}, began)
	if !changed || events != nil || meta.FindStatusCondition(upgraded.Status.Conditions, v1alpha1.ConditionAnnounced).Message != "by n2" {
		t.Errorf("after an upgrade: changed=%v events=%v", changed, events)
	}

	foreign := snapshot.Condition{Status: "False", Reason: "AddressConflict", Message: "no node announces 192.0.2.1: 02:00:00:00:00:99 has it"}
	taken, changed, events := wantStatus(svc, given, foreign, began)
	if !changed || !slices.Equal(reasons(events), []string{"Warning AddressConflict"}) || len(taken.Status.LoadBalancer.Ingress) != 1 {
		t.Errorf("a conflict: changed=%v events=%v", changed, events)
	}
	if _, changed, events = wantStatus(taken, given, foreign, began); changed || events != nil {
		t.Errorf("the same conflict again: changed=%v events=%v", changed, events)
	}

	wiped := svc.DeepCopy()
	wiped.Status.LoadBalancer = corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "203.0.113.9"}, {Hostname: "x"}}}
	if got, changed, _ := wantStatus(wiped, given, loud, began); !changed || len(got.Status.LoadBalancer.Ingress) != 1 || got.Status.LoadBalancer.Ingress[0].IP != "192.0.2.1" {
		t.Errorf("an edited status is not repaired: %+v", got.Status.LoadBalancer)
	}

	full := allocator.Outcome{Ref: web, Refusal: &snapshot.Refusal{Reason: allocator.PoolExhausted, Message: "no free address"}}
	refused, _, events := wantStatus(fresh, full, loud, began)
	if !slices.Equal(reasons(events), []string{"Warning PoolExhausted"}) {
		t.Errorf("a refusal's events: %v", events)
	}
	if c := meta.FindStatusCondition(refused.Status.Conditions, v1alpha1.ConditionAddressAssigned); c == nil || c.Status != metav1.ConditionFalse || c.Reason != "PoolExhausted" {
		t.Errorf("a refusal's condition: %+v", c)
	}
	if _, changed, events = wantStatus(refused, full, loud, began); changed || events != nil {
		t.Errorf("the same refusal again: changed=%v events=%v", changed, events)
	}

	keeps := given
	keeps.Kept, keeps.Refusal = true, &snapshot.Refusal{Reason: allocator.AddressInUse, Message: "192.0.2.2 is held by a/db"}
	got, _, events := wantStatus(svc, keeps, loud, began)
	if len(got.Status.LoadBalancer.Ingress) != 1 || !slices.Equal(reasons(events), []string{"Warning AddressInUse"}) {
		t.Errorf("a refused change: ingress %v, events %v", got.Status.LoadBalancer.Ingress, events)
	}

	nopool := allocator.Outcome{Ref: web, Refusal: &snapshot.Refusal{Reason: allocator.NoPool, Message: "there is no pool"}}
	if _, _, events = wantStatus(fresh, nopool, loud, began); !slices.Equal(reasons(events), []string{"Normal NoPool"}) {
		t.Errorf("no pool is normal: %v", events)
	}
	old := fresh.DeepCopy()
	old.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.7"}}
	if got, _, _ := wantStatus(old, nopool, loud, began); len(got.Status.LoadBalancer.Ingress) != 1 {
		t.Error("an address from an earlier controller is dropped before the first pool is there")
	}
}
