package kube

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// nodeShutsDown is in the message of the condition Ready from the moment at which systemd
// tells the kubelet that the machine shuts down: see shutdownGracePeriod of the kubelet.
const nodeShutsDown = "node is shutting down"

func toNode(n *corev1.Node) *snapshot.Node {
	out := &snapshot.Node{
		Name: n.Name, UID: string(n.UID), Labels: n.Labels, Zone: n.Labels[corev1.LabelTopologyZone],
		Unschedulable: n.Spec.Unschedulable, Deleting: n.DeletionTimestamp != nil,
	}
	for _, a := range n.Status.Addresses {
		ip, ok := snapshot.ParseAddr(a.Address)
		switch {
		case !ok:
		case a.Type == corev1.NodeInternalIP:
			out.InternalIPs = append(out.InternalIPs, ip)
		case a.Type == corev1.NodeExternalIP:
			out.ExternalIPs = append(out.ExternalIPs, ip)
		}
	}
	cidrs := n.Spec.PodCIDRs
	if len(cidrs) == 0 && n.Spec.PodCIDR != "" {
		cidrs = []string{n.Spec.PodCIDR}
	}
	out.PodCIDRs = prefixes(cidrs)
	for _, c := range n.Status.Conditions {
		switch c.Type {
		case corev1.NodeReady:
			// Unknown is only that the control plane has not heard of the kubelet,
			// after an outage often of any. Whether the node lives is told by its
			// agent's renewals.
			out.Ready = c.Status != corev1.ConditionFalse
			out.Unheard = c.Status == corev1.ConditionUnknown
			// The kubelet's graceful shutdown says so here and nowhere else, in a message.
			out.ShuttingDown = c.Status == corev1.ConditionFalse && strings.Contains(c.Message, nodeShutsDown)
		case corev1.NodeNetworkUnavailable:
			out.NetworkUnavail = c.Status == corev1.ConditionTrue
		}
	}
	for _, t := range n.Spec.Taints {
		out.Taints = append(out.Taints, t.Key)
	}
	slices.Sort(out.Taints)
	return out
}

func toNamespace(n *corev1.Namespace) *snapshot.Namespace {
	return &snapshot.Namespace{Name: n.Name, UID: string(n.UID), Labels: n.Labels}
}

func toServiceCIDR(c *networkingv1.ServiceCIDR) *snapshot.ServiceCIDR {
	return &snapshot.ServiceCIDR{Name: c.Name, Prefixes: prefixes(c.Spec.CIDRs)}
}

func toAnnouncement(a *v1alpha1.Announcement) *snapshot.Announcement {
	out := &snapshot.Announcement{
		Name: a.Name, PoolSelector: toSelector(a.Spec.PoolSelector), ServiceSelector: toSelector(a.Spec.ServiceSelector),
		NodeSelector: toSelector(a.Spec.NodeSelector), L2: a.Spec.L2 != nil, Forwarding: snapshot.Forwarding(a.Spec.Forwarding),
		FailbackNever: a.Spec.Failback == v1alpha1.FailbackNever, Rebalance: a.Annotations[v1alpha1.AnnotationRebalance],
	}
	for _, cause := range a.Spec.DrainOn {
		out.DrainOn |= snapshot.DrainCause(string(cause))
	}
	if a.Spec.L2 != nil {
		out.Interfaces, out.Refresh = a.Spec.L2.Interfaces, duration(a.Spec.L2.RefreshInterval)
	}
	if a.Spec.BGP != nil {
		out.BGP = toBGP(a.Spec.BGP)
	}
	for _, p := range a.Spec.PreferredNodes {
		out.PreferredNodes = append(out.PreferredNodes, snapshot.PreferredNodes{Selector: toSelector(&p.Selector), Weight: int(p.Weight)})
	}
	return out
}

func toAddress(a *v1alpha1.Address) *snapshot.Address {
	addr, ok := snapshot.ParseAddr(a.Spec.Address)
	if !ok {
		return nil
	}
	out := &snapshot.Address{
		Addr: addr, UID: string(a.UID), ResourceVersion: a.ResourceVersion, Created: a.CreationTimestamp.Time, Pool: a.Spec.Pool, Lease: a.Spec.Lease, Node: a.Spec.Node, ShareKey: a.Spec.ShareKey, ShareGroup: a.Spec.Backend,
		Deleting: a.DeletionTimestamp != nil, ProbedAt: timeOf(a.Status.ProbedAt), Conflict: a.Status.Conflict,
	}
	if c := toConditions(a.Status.Conditions)[v1alpha1.ConditionConflicting]; c.Status == string(metav1.ConditionTrue) {
		out.Conflicting = c.Message
	}
	for _, h := range a.Spec.Holders {
		held := snapshot.Holder{Ref: snapshot.Ref{Namespace: h.Namespace, Name: h.Name}, UID: string(h.UID), Pool: h.Pool}
		for _, p := range h.Ports {
			held.Ports = append(held.Ports, snapshot.HeldPort{Protocol: protocol(p.Protocol), Port: uint16(p.Port)})
		}
		held.Ranges = toRanges(h.Ranges)
		out.Holders = append(out.Holders, held)
	}
	if f := a.Spec.Freed; f != nil {
		out.Freed = snapshot.Freed{Namespace: f.Namespace, At: f.At.Time}
	}
	slices.SortFunc(out.Holders, func(a, b snapshot.Holder) int { return a.Ref.Compare(b.Ref) })
	return out
}

// toRanges returns ranges of ports, sorted and joined: the kernel refuses those that overlap.
func toRanges(held []v1alpha1.HeldRange) (out []snapshot.PortRange) {
	for _, r := range held {
		if r.First >= 1 && r.First <= r.Last && r.Last <= 65535 {
			out = append(out, snapshot.PortRange{Protocol: protocol(r.Protocol), First: uint16(r.First), Last: uint16(r.Last)})
		}
	}
	return snapshot.JoinPortRanges(out)
}

// FromAddress is the spec of the Address object of a record.
func FromAddress(a snapshot.Address) v1alpha1.AddressSpec {
	spec := v1alpha1.AddressSpec{Address: a.Addr.String(), Pool: a.Pool, Lease: a.Lease, Node: a.Node, ShareKey: a.ShareKey, Backend: a.ShareGroup}
	for _, h := range a.Holders {
		held := v1alpha1.AddressHolder{Namespace: h.Namespace, Name: h.Name, UID: uidOf(h.UID), Pool: h.Pool}
		for _, p := range h.Ports {
			held.Ports = append(held.Ports, v1alpha1.HeldPort{Protocol: corev1.Protocol(strings.ToUpper(p.Protocol.String())), Port: int32(p.Port)})
		}
		for _, r := range h.Ranges {
			held.Ranges = append(held.Ranges, v1alpha1.HeldRange{Protocol: corev1.Protocol(strings.ToUpper(r.Protocol.String())), First: int32(r.First), Last: int32(r.Last)})
		}
		spec.Holders = append(spec.Holders, held)
	}
	if a.Freed.Namespace != "" {
		spec.Freed = &v1alpha1.FreedAddress{Namespace: a.Freed.Namespace, At: metav1.NewTime(a.Freed.At)}
	}
	return spec
}

// timeOf returns when t is; the zero time if it is nil.
func timeOf(t *metav1.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.Time
}

func toSelector(s *metav1.LabelSelector) *snapshot.Selector {
	if s == nil {
		return nil
	}
	out := &snapshot.Selector{MatchLabels: s.MatchLabels}
	for _, e := range s.MatchExpressions {
		out.Expressions = append(out.Expressions, snapshot.Requirement{Key: e.Key, Operator: string(e.Operator), Values: e.Values})
	}
	return out
}

func toConditions(cs []metav1.Condition) map[string]snapshot.Condition {
	if len(cs) == 0 {
		return nil
	}
	out := make(map[string]snapshot.Condition, len(cs))
	for _, c := range cs {
		out[c.Type] = snapshot.Condition{Status: string(c.Status), Reason: c.Reason, Message: c.Message}
	}
	return out
}

// prefixes reads CIDRs and passes over what is none; host bits are kept.
func prefixes(texts []string) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range texts {
		if p, ok := snapshot.ParsePrefix(t); ok {
			out = append(out, p)
		}
	}
	return out
}

func protocol(p corev1.Protocol) snapshot.Protocol {
	switch p {
	case corev1.ProtocolUDP:
		return snapshot.UDP
	case corev1.ProtocolSCTP:
		return snapshot.SCTP
	}
	return snapshot.TCP
}

func seconds(n *int32, or int32) time.Duration {
	if n != nil {
		or = *n
	}
	return time.Duration(or) * time.Second
}
