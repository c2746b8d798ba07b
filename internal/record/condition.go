package record

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/plain"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Assigned is the condition fairlead.io/AddressAssigned of an outcome.
func Assigned(o allocator.Outcome) snapshot.Condition {
	texts := make([]string, len(o.Addrs))
	for i, a := range o.Addrs {
		texts[i] = a.String()
	}
	held := strings.Join(texts, ", ")
	if len(texts) > addrsMax {
		held = fmt.Sprintf("%s and %d more", strings.Join(texts[:addrsMax], ", "), len(texts)-addrsMax)
	}
	switch {
	case len(o.Addrs) == 0 && o.Refusal != nil:
		return snapshot.Condition{Status: "False", Reason: string(o.Refusal.Reason), Message: told(o.Refusal)}
	case o.Refusal != nil:
		return snapshot.Condition{Status: "True", Reason: string(o.Refusal.Reason), Message: "keeps " + held + ": " + told(o.Refusal)}
	case lasting(o) != nil:
		return snapshot.Condition{Status: "True", Reason: string(lasting(o).Reason), Message: Warned(*lasting(o))}
	}
	return snapshot.Condition{Status: "True", Reason: "Assigned", Message: held + " from " + poolsText(o.Pool) + leaving(o)}
}

// poolsText names the pools of an outcome.
func poolsText(pools string) string {
	if strings.Contains(pools, ",") {
		return "pools " + strings.ReplaceAll(pools, ",", ", ")
	}
	return "pool " + pools
}

// leaving says which addresses of o are there for a while only.
func leaving(o allocator.Outcome) string {
	if len(o.Leaving) == 0 {
		return ""
	}
	texts := make([]string, len(o.Leaving))
	for i, a := range o.Leaving {
		texts[i] = a.String()
	}
	return "; the network's prefix has changed, and clients can use " + strings.Join(texts, ", ") + " for a while yet"
}

// addrsMax bounds how many addresses a condition lists.
const addrsMax = 16

// next is what the owner of a Service can do, who sees neither pools nor other Services.
var next = map[snapshot.Reason]string{
	allocator.NoPool:             "the cluster's administrator has to make an AddressPool",
	allocator.PoolExhausted:      "delete a Service of type LoadBalancer that you do not need, or ask the cluster's administrator for more addresses",
	allocator.NamespaceLimit:     "delete a Service of type LoadBalancer that you do not need, or ask the cluster's administrator for a higher limit",
	allocator.PoolNotFound:       "correct the annotation " + allocator.AnnotationPool + ", or take it away",
	allocator.PoolConflicting:    "ask the cluster's administrator to correct the pool",
	allocator.PoolInvalid:        "ask the cluster's administrator to correct the pool",
	allocator.PoolDisabled:       "ask for another pool, or ask the cluster's administrator",
	allocator.NotSelected:        "ask for another pool, or ask the cluster's administrator to let this Service use it",
	allocator.OutsidePools:       "ask for an address of a pool, or for none",
	allocator.AddressInUse:       "ask for another address, or for none",
	allocator.AddressReserved:    "ask for another address, or for none",
	allocator.ShareRefused:       "ask for another address, or for none",
	allocator.PortInUse:          "choose another port in spec.ports, or ask for another pool",
	allocator.PortOfNode:         "choose another port in spec.ports, or ask for another pool",
	allocator.WrongFamily:        "change spec.ipFamilyPolicy or what the annotations ask for",
	allocator.NoPrefix:           "wait; if it stays, ask the cluster's administrator, who finds more in the pool's condition Prefix",
	allocator.NoLease:            "wait; if it stays, ask the cluster's administrator, who finds more in the pool's condition Leases",
	allocator.InvalidRequest:     "correct it, or take it away",
	allocator.ConflictingRequest: "take one of the two away",
	allocator.TooLarge:           "split it into several Services",
	allocator.NoClusterIP:        "wait; if it stays, ask the cluster's administrator for a larger range of ClusterIPs",
}

// warnings is what the owner of a Service can do about something that does not keep it
// from its address.
var warnings = map[snapshot.Reason]string{
	allocator.OutsidePools:             "ask for an address of a pool",
	allocator.NotSelected:              "ask the cluster's administrator to let the pool serve this Service",
	allocator.PoolConflicting:          "ask the cluster's administrator to correct the pool",
	allocator.PoolInvalid:              "ask the cluster's administrator to correct the pool",
	allocator.LeaseLapsing:             "ask the cluster's administrator, who finds more in the pool's condition Leases",
	allocator.StatusIgnored:            "tell the clients the new address",
	allocator.DuplicateRequest:         "take one of the two away",
	allocator.DeprecatedLoadBalancerIP: "move the address to the annotation",
}

// Warned is what a warning says to the owner of the Service.
func Warned(w snapshot.Refusal) string {
	if n := warnings[w.Reason]; n != "" {
		return w.Message + ". Next: " + n
	}
	return w.Message
}

// told is what a refusal says to the owner of the Service: what is wrong, and what to do.
func told(r *snapshot.Refusal) string {
	if n := next[r.Reason]; n != "" {
		return r.Message + ". Next: " + n
	}
	return r.Message
}

// lasting returns the warning by which an address may not last; nil if it lasts.
func lasting(o allocator.Outcome) *snapshot.Refusal {
	for i := range o.Warnings {
		if r := o.Warnings[i].Reason; r == allocator.OutsidePools || r == allocator.LeaseLapsing {
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
	if len(o.Addrs) == 0 || o.OfNodes {
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
		Type: kind, Status: metav1.ConditionStatus(c.Status), Reason: c.Reason, Message: plain.Text(c.Message), ObservedGeneration: svc.Generation,
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
