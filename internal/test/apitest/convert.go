package apitest

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// service is the object of a Service, as far as the allocator reads it. What
// fairlead itself writes into it comes from old, its version so far.
func service(s *snapshot.Service, old *corev1.Service) *corev1.Service {
	policy := corev1.IPFamilyPolicy(s.FamilyPolicy)
	out := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Namespace, Name: s.Name, UID: types.UID(s.UID), CreationTimestamp: metav1.NewTime(s.Created),
			Labels: s.Labels, Annotations: s.Annotations,
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceType(s.Type), LoadBalancerIP: s.LoadBalancerIP, Selector: s.Selector, IPFamilyPolicy: &policy,
			ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicy(s.ExternalTrafficPolicy), ClusterIPs: texts(s.ClusterIPs),
		},
	}
	if s.Class != "" {
		out.Spec.LoadBalancerClass = &s.Class
	}
	if s.Headless {
		out.Spec.ClusterIP, out.Spec.ClusterIPs = corev1.ClusterIPNone, nil
	}
	if s.Deleting {
		out.DeletionTimestamp = &metav1.Time{Time: s.Created}
	}
	for _, f := range s.Families {
		out.Spec.IPFamilies = append(out.Spec.IPFamilies, corev1.IPFamily(f.String()))
	}
	for _, p := range s.Ports {
		out.Spec.Ports = append(out.Spec.Ports, corev1.ServicePort{Name: p.Name, Port: int32(p.Port), NodePort: int32(p.NodePort), Protocol: corev1.Protocol(strings.ToUpper(p.Protocol.String()))})
	}
	if old != nil && old.UID == out.UID {
		out.Finalizers, out.Status = old.Finalizers, *old.Status.DeepCopy()
	}
	out.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	mode := corev1.LoadBalancerIPModeVIP
	for _, in := range s.Ingress {
		entry := corev1.LoadBalancerIngress{Hostname: in.Hostname}
		if in.IP.IsValid() {
			entry.IP, entry.IPMode = in.IP.String(), &mode
		}
		out.Status.LoadBalancer.Ingress = append(out.Status.LoadBalancer.Ingress, entry)
	}
	return out
}

// placed is the endpoint with a number of a Service.
type placed struct {
	svc *snapshot.Service
	i   int
}

// endpointsOf returns all endpoints of s.
func endpointsOf(s *snapshot.Snapshot) (out []placed) {
	for _, svc := range s.Services {
		for i := range svc.Endpoints {
			out = append(out, placed{svc, i})
		}
	}
	return out
}

// slice is an EndpointSlice with one endpoint.
func slice(p placed) *discoveryv1.EndpointSlice {
	ep := p.svc.Endpoints[p.i]
	port, protocol := int32(ep.Addr.Port()), corev1.Protocol(strings.ToUpper(ep.Protocol.String()))
	e := discoveryv1.Endpoint{Addresses: []string{ep.Addr.Addr().String()}, Conditions: discoveryv1.EndpointConditions{
		Ready: &ep.Ready, Serving: &ep.Serving, Terminating: &ep.Terminating,
	}}
	if ep.Node != "" {
		e.NodeName = &ep.Node
	}
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.svc.Namespace, Name: fmt.Sprintf("%s-%d", p.svc.Name, p.i), Labels: map[string]string{discoveryv1.LabelServiceName: p.svc.Name},
		},
		AddressType: discoveryv1.AddressType(snapshot.FamilyOf(ep.Addr.Addr()).String()),
		Ports:       []discoveryv1.EndpointPort{{Name: &ep.PortName, Port: &port, Protocol: &protocol}}, Endpoints: []discoveryv1.Endpoint{e},
	}
}

func pool(p *snapshot.Pool, old *v1alpha1.AddressPool) *v1alpha1.AddressPool {
	auto := p.AutoAssign
	out := &v1alpha1.AddressPool{
		ObjectMeta: metav1.ObjectMeta{Name: p.Name, UID: types.UID(p.UID), Generation: p.Generation, CreationTimestamp: metav1.NewTime(p.Created)},
		Spec: v1alpha1.AddressPoolSpec{
			AutoAssign: &auto, AvoidBuggyIPs: p.AvoidBuggyIPs, Disabled: p.Disabled, Namespaces: p.Namespaces,
			NamespaceSelector: selector(p.NamespaceSelector), ServiceSelector: selector(p.ServiceSelector), Addresses: p.Bad,
		},
	}
	if p.Nodes != nil {
		out.Spec.NodeAddresses = &v1alpha1.NodeAddresses{NodeSelector: selector(p.Nodes)}
	}
	for _, r := range p.Exclude {
		out.Spec.Exclude = append(out.Spec.Exclude, v1alpha1.AddressRange(r.From().String()+"-"+r.To().String()))
	}
	for _, r := range p.Reservations {
		out.Spec.Reservations = append(out.Spec.Reservations, v1alpha1.Reservation{Address: v1alpha1.IPAddress(r.Addr.String()), Namespace: r.Namespace, Name: r.Name})
	}
	if p.MaxPerNamespace > 0 {
		n := int32(p.MaxPerNamespace)
		out.Spec.MaxPerNamespace = &n
	}
	if p.Nodes == nil {
		out.Spec.CoolDown = &metav1.Duration{Duration: p.CoolDown} // 0 too: no story means the default
	}
	ranges := p.Ranges
	if f := p.FromPrefix; f != nil {
		ranges = p.WithPrefixes(nil).Ranges
		out.Spec.FromPrefix = &v1alpha1.FromPrefix{Interface: f.Interface, Host: f.Host.String(), Grace: &metav1.Duration{Duration: f.Grace}}
		out.Status.Prefixes = kube.FromPrefixes(p.Prefixes)
	}
	if f := p.FromDHCP; f != nil {
		ranges, out.Spec.CoolDown = nil, nil
		out.Spec.FromDHCP = &v1alpha1.FromDHCP{Interface: f.Interface, NodeSelector: selector(f.Nodes)}
		for _, family := range f.Families {
			out.Spec.FromDHCP.Families = append(out.Spec.FromDHCP.Families, corev1.IPFamily(family.String()))
		}
		out.Status.Leases = kube.FromLeases(p.Leases)
	}
	for _, r := range ranges {
		out.Spec.Addresses = append(out.Spec.Addresses, r.From().String()+"-"+r.To().String())
	}
	if p.Priority != snapshot.NoPriority {
		n := int32(p.Priority)
		out.Spec.Priority = &n
	}
	if old != nil {
		prefixes, leases := out.Status.Prefixes, out.Status.Leases
		out.Status = old.Status
		out.Status.Prefixes, out.Status.Leases = prefixes, leases
	}
	return out
}

func address(a *snapshot.Address, old *v1alpha1.Address) *v1alpha1.Address {
	out := &v1alpha1.Address{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AddressName(a.Addr)}, Spec: kube.FromAddress(*a)}
	if old != nil {
		out.UID = old.UID
	}
	if a.Deleting {
		out.DeletionTimestamp = &metav1.Time{}
	}
	return out
}

func node(n *snapshot.Node) *corev1.Node {
	out := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels}}
	for _, a := range n.InternalIPs {
		out.Status.Addresses = append(out.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
	}
	for _, a := range n.ExternalIPs {
		out.Status.Addresses = append(out.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: a.String()})
	}
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue}
	switch {
	case n.Unheard:
		ready.Status = corev1.ConditionUnknown
	case !n.Ready:
		ready.Status = corev1.ConditionFalse
	}
	out.Status.Conditions = []corev1.NodeCondition{ready}
	out.Spec.PodCIDRs = prefixes(n.PodCIDRs)
	return out
}

func namespace(n *snapshot.Namespace) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels}}
}

func serviceCIDR(c *snapshot.ServiceCIDR) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: c.Name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: prefixes(c.Prefixes)}}
}

func selector(s *snapshot.Selector) *metav1.LabelSelector {
	if s == nil {
		return nil
	}
	return &metav1.LabelSelector{MatchLabels: s.MatchLabels}
}

func texts(addrs []netip.Addr) (out []string) {
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return out
}

func nodeStateOf(st *snapshot.NodeState) nodeState {
	return &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: st.Node}, Status: kube.FromNodeState(*st)}
}

func prefixes(list []netip.Prefix) (out []string) {
	for _, p := range list {
		out = append(out, p.String())
	}
	return out
}
