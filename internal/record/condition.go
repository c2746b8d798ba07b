package record

import (
	"slices"
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

// SetConditions makes svc's conditions those of o at now. The condition Announced has
// the time since when its message has been true: the owner of an address changes
// without a change of the condition's status.
func SetConditions(svc *corev1.Service, o allocator.Outcome, announced snapshot.Condition, now time.Time) {
	set(svc, v1alpha1.ConditionAddressAssigned, Assigned(o))
	if len(o.Addrs) == 0 {
		meta.RemoveStatusCondition(&svc.Status.Conditions, v1alpha1.ConditionAnnounced)
		return
	}
	was := AnnouncedOf(svc)
	set(svc, v1alpha1.ConditionAnnounced, announced)
	c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionAnnounced)
	c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second)) // as the API server keeps it
	// The reason why nobody announces an address may change every moment; how long
	// nobody has announced it must not begin again with it.
	if was != nil && was.Status == c.Status && (was.Status == metav1.ConditionFalse || was.Message == c.Message) {
		c.LastTransitionTime = was.LastTransitionTime
	}
}

// AnnouncedOf returns a copy of svc's condition Announced, nil if it has none.
// Version 0.1.0 wrote the time into the message, as " since 2026-01-02T03:04:05Z" at
// its end: it is returned in its field, as if this version had written it.
func AnnouncedOf(svc *corev1.Service) *metav1.Condition {
	c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionAnnounced)
	if c == nil {
		return nil
	}
	out := *c
	const word = " since "
	if i := strings.LastIndex(out.Message, word); i >= 0 {
		if at, err := time.Parse(time.RFC3339, out.Message[i+len(word):]); err == nil {
			out.Message, out.LastTransitionTime = out.Message[:i], metav1.NewTime(at)
		}
	}
	return &out
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

// Assigns reports whether svc's condition AddressAssigned names addr.
func Assigns(svc *corev1.Service, addr string) bool {
	c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionAddressAssigned)
	if c == nil {
		return false
	}
	words := strings.FieldsFunc(c.Message, func(r rune) bool { return r == ' ' || r == ',' || r == ';' })
	return slices.ContainsFunc(words, func(w string) bool { return w == addr || strings.TrimRight(w, ":") == addr })
}
