package controller

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/record"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// event is one Event that a status change brings.
type event struct{ kind, reason, message string }

// wantStatus returns old with the status that o asks for at now, whether that is a
// change, and the Events that report it.
func wantStatus(old *corev1.Service, o allocator.Outcome, announced snapshot.Condition, now time.Time) (svc *corev1.Service, changed bool, events []event) {
	svc = record.WithStatus(old)
	if waiting := len(o.Addrs) == 0 && o.Refusal != nil && o.Refusal.Reason == allocator.NoPool; !waiting {
		// Without any pool, what an earlier controller wrote stays: the first pool
		// that has the address lets its Service keep it.
		svc.Status.LoadBalancer.Ingress = record.Ingress(o, old)
	}
	record.SetConditions(svc, o, announced, now)
	if equality.Semantic.DeepEqual(old.Status, svc.Status) {
		return old, false, nil
	}
	return svc, true, statusEvents(old, svc, o)
}

// statusEvents lists the Events of a status change: those of the assignment, and who
// announces it from now on, or that nobody does any more.
func statusEvents(old, now *corev1.Service, o allocator.Outcome) []event {
	out := assignmentEvents(old, now, o)
	c := meta.FindStatusCondition(now.Status.Conditions, v1alpha1.ConditionAnnounced)
	was := record.AnnouncedOf(old)
	switch {
	case c == nil, was != nil && was.Status == c.Status && was.Reason == c.Reason && was.Message == c.Message:
	case c.Reason == string(announcer.AddressConflict):
		if was == nil || was.Reason != c.Reason || was.Status != c.Status {
			out = append(out, event{corev1.EventTypeWarning, c.Reason, c.Message})
		}
	case c.Status == metav1.ConditionTrue:
		out = append(out, event{corev1.EventTypeNormal, c.Reason, c.Message})
	case was != nil && was.Status == metav1.ConditionTrue:
		out = append(out, event{corev1.EventTypeWarning, c.Reason, c.Message})
	}
	return out
}

// assignmentEvents lists the Events of an assignment. Waiting because there is no pool at
// all, or no cluster IP yet, is normal; every other refusal is a Warning, once.
func assignmentEvents(old, now *corev1.Service, o allocator.Outcome) []event {
	var out []event
	if !slices.Equal(ips(old), ips(now)) {
		switch {
		case len(ips(now)) > 0:
			done := event{corev1.EventTypeNormal, "EnsuredLoadBalancer", "Ensured load balancer: " + record.Assigned(o).Message}
			if len(ips(old)) > 0 {
				done.reason, done.message = "UpdatedLoadBalancer", "Updated load balancer: "+record.Assigned(o).Message
			}
			out = append(out, done)
			for _, w := range o.Warnings {
				out = append(out, event{corev1.EventTypeWarning, string(w.Reason), record.Warned(w)})
			}
		default:
			out = append(out, event{corev1.EventTypeNormal, "DeletedLoadBalancer", "Deleted load balancer"})
		}
	}
	was := meta.FindStatusCondition(old.Status.Conditions, v1alpha1.ConditionAddressAssigned)
	if c := record.Assigned(o); c.Reason == string(allocator.LeaseLapsing) && slices.Equal(ips(old), ips(now)) && (was == nil || was.Message != c.Message) {
		out = append(out, event{corev1.EventTypeWarning, c.Reason, c.Message})
	}
	if r := o.Refusal; r != nil && (was == nil || was.Reason != string(r.Reason) || was.Message != record.Assigned(o).Message) {
		kind := corev1.EventTypeWarning
		if r.Reason == allocator.NoPool || r.Reason == allocator.NoClusterIP {
			kind = corev1.EventTypeNormal
		}
		out = append(out, event{kind, string(r.Reason), record.Assigned(o).Message})
	}
	return out
}

func ips(s *corev1.Service) []string {
	var out []string
	for _, in := range s.Status.LoadBalancer.Ingress {
		out = append(out, in.IP)
	}
	return out
}
