package record

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Assigned is the condition fairlead.io/AddressAssigned of an outcome.
func Assigned(o allocator.Outcome) snapshot.Condition {
	texts := make([]string, len(o.Addrs))
	for i, a := range o.Addrs {
		texts[i] = a.String()
	}
	held := strings.Join(texts, ", ")
	switch {
	case len(o.Addrs) == 0 && o.Refusal != nil:
		return snapshot.Condition{Status: "False", Reason: string(o.Refusal.Reason), Message: o.Refusal.Message}
	case o.Refusal != nil:
		return snapshot.Condition{Status: "True", Reason: string(o.Refusal.Reason), Message: "keeps " + held + ": " + o.Refusal.Message}
	case outside(o) != nil:
		return snapshot.Condition{Status: "True", Reason: string(allocator.OutsidePools), Message: outside(o).Message}
	}
	return snapshot.Condition{Status: "True", Reason: "Assigned", Message: held + " from pool " + o.Pool}
}

func outside(o allocator.Outcome) *snapshot.Refusal {
	for i := range o.Warnings {
		if o.Warnings[i].Reason == allocator.OutsidePools {
			return &o.Warnings[i]
		}
	}
	return nil
}

// SetConditions makes svc's conditions those of o.
func SetConditions(svc *corev1.Service, o allocator.Outcome, announced snapshot.Condition) {
	set(svc, v1alpha1.ConditionAddressAssigned, Assigned(o))
	if len(o.Addrs) > 0 {
		announced.Message = since(meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionAnnounced), announced, time.Now())
		set(svc, v1alpha1.ConditionAnnounced, announced)
	} else {
		meta.RemoveStatusCondition(&svc.Status.Conditions, v1alpha1.ConditionAnnounced)
	}
}

// since returns c's message with the time since when it has been what it is: the
// owner of an address changes without a change of the condition's status.
func since(was *metav1.Condition, c snapshot.Condition, now time.Time) string {
	const word = " since "
	if c.Status != string(metav1.ConditionTrue) {
		return c.Message
	}
	if was != nil {
		if i := strings.LastIndex(was.Message, word); i >= 0 && was.Message[:i] == c.Message {
			return was.Message
		}
	}
	return c.Message + word + now.UTC().Format(time.RFC3339)
}

// ClearConditions takes our conditions from svc.
func ClearConditions(svc *corev1.Service) {
	meta.RemoveStatusCondition(&svc.Status.Conditions, v1alpha1.ConditionAddressAssigned)
	meta.RemoveStatusCondition(&svc.Status.Conditions, v1alpha1.ConditionAnnounced)
}

func set(svc *corev1.Service, kind string, c snapshot.Condition) {
	meta.SetStatusCondition(&svc.Status.Conditions, metav1.Condition{
		Type: kind, Status: metav1.ConditionStatus(c.Status), Reason: c.Reason, Message: c.Message, ObservedGeneration: svc.Generation,
	})
}
