package kube

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// defaultAffinity is Kubernetes' default sessionAffinityConfig timeout, seconds.
const defaultAffinity = 10800

func uidOf(s string) types.UID { return types.UID(s) }

// toService makes one Service without endpoints of the object. See Store.Lean.
func toService(s *corev1.Service, lean bool) *snapshot.Service {
	out := &snapshot.Service{
		Ref: snapshot.Ref{Namespace: s.Namespace, Name: s.Name}, UID: string(s.UID), Created: s.CreationTimestamp.Time,
		Labels: s.Labels, Annotations: s.Annotations, Finalizers: s.Finalizers, Deleting: s.DeletionTimestamp != nil,
		Type: snapshot.ServiceType(intern(string(s.Spec.Type))), Headless: s.Spec.ClusterIP == corev1.ClusterIPNone,
		ExternalTrafficPolicy: snapshot.Policy(intern(string(s.Spec.ExternalTrafficPolicy))),
		SourceRanges:          s.Spec.LoadBalancerSourceRanges, HealthCheckNodePort: uint16(s.Spec.HealthCheckNodePort),
		PublishNotReady: s.Spec.PublishNotReadyAddresses, LoadBalancerIP: s.Spec.LoadBalancerIP,
		Selector: s.Spec.Selector, Conditions: toConditions(s.Status.Conditions),
	}
	if s.Spec.InternalTrafficPolicy != nil {
		out.InternalTrafficPolicy = snapshot.Policy(intern(string(*s.Spec.InternalTrafficPolicy)))
	}
	if s.Spec.LoadBalancerClass != nil {
		out.Class = *s.Spec.LoadBalancerClass
	}
	if s.Spec.IPFamilyPolicy != nil {
		out.FamilyPolicy = snapshot.FamilyPolicy(intern(string(*s.Spec.IPFamilyPolicy)))
	}
	if s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		out.Affinity = seconds(affinitySeconds(s), defaultAffinity)
	}
	addresses(out, s)
	for _, p := range s.Spec.Ports {
		out.Ports = append(out.Ports, snapshot.Port{Name: intern(p.Name), Protocol: protocol(p.Protocol), Port: uint16(p.Port), NodePort: uint16(p.NodePort)})
	}
	out.Choose(s.Annotations)
	if lean {
		leanService(out)
	}
	return out
}

// leanService leaves out what agents do not read. They match the labels of Services that
// may have a VIP with Announcements, and of all others only those that say who serves it.
func leanService(s *snapshot.Service) {
	s.Annotations, s.Finalizers, s.Conditions, s.Selector, s.LoadBalancerIP, s.FamilyPolicy, s.Families = nil, nil, nil, nil, "", "", nil
	if s.Type != snapshot.LoadBalancer {
		s.Labels = s.ServedBy()
	}
}

// intern returns a string equal to s that all who ask share. A cluster has few names of
// ports, nodes and zones, and a hundred thousand mentions of them.
func intern(s string) string { return unique.Make(s).Value() }

func affinitySeconds(s *corev1.Service) *int32 {
	if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil {
		return c.ClientIP.TimeoutSeconds
	}
	return nil
}

func addresses(out *snapshot.Service, s *corev1.Service) {
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 && s.Spec.ClusterIP != "" {
		ips = []string{s.Spec.ClusterIP}
	}
	for _, text := range ips {
		if ip, ok := snapshot.ParseAddr(text); ok {
			out.ClusterIPs = append(out.ClusterIPs, ip)
		}
	}
	for _, text := range s.Spec.ExternalIPs {
		if ip, ok := snapshot.ParseAddr(text); ok {
			out.ExternalIPs = append(out.ExternalIPs, ip)
		}
	}
	for _, f := range s.Spec.IPFamilies {
		if f == corev1.IPv6Protocol {
			out.Families = append(out.Families, snapshot.IPv6)
		} else {
			out.Families = append(out.Families, snapshot.IPv4)
		}
	}
	for _, in := range s.Status.LoadBalancer.Ingress {
		ip, _ := snapshot.ParseAddr(in.IP)
		out.Ingress = append(out.Ingress, snapshot.Ingress{
			IP: ip, Hostname: in.Hostname, Proxy: in.IPMode != nil && *in.IPMode == corev1.LoadBalancerIPModeProxy,
		})
	}
}

// toEndpoints returns the endpoints of a slice, as distinct does.
func toEndpoints(sl *discoveryv1.EndpointSlice) []snapshot.Endpoint {
	out := make([]snapshot.Endpoint, 0, len(sl.Endpoints)*len(sl.Ports))
	for _, ep := range sl.Endpoints {
		if len(ep.Addresses) == 0 {
			continue
		}
		ip, ok := snapshot.ParseAddr(ep.Addresses[0])
		if !ok {
			continue
		}
		for _, p := range sl.Ports {
			if takes(p) {
				out = append(out, toEndpoint(ip, p, ep))
			}
		}
	}
	return distinct(out)
}

// takes reports whether a port of a slice has a name and a number.
func takes(p discoveryv1.EndpointPort) bool {
	return p.Name != nil && p.Port != nil && *p.Port >= 1 && *p.Port <= 65535
}

// union returns the endpoints of all slices of one Service, nil for none.
func union(parts []*part) []snapshot.Endpoint {
	if len(parts) == 1 {
		return parts[0].endpoints // shared: nobody changes them
	}
	var all []snapshot.Endpoint
	for _, p := range parts {
		all = append(all, p.endpoints...)
	}
	return distinct(all)
}

// distinct sorts endpoints and leaves one of each address and port: the one that is not
// terminating, is ready, serves and has a node, in this order. It returns nil for none.
func distinct(all []snapshot.Endpoint) []snapshot.Endpoint {
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, compareEndpoints)
	return slices.CompactFunc(all, func(a, b snapshot.Endpoint) bool {
		return a.PortName == b.PortName && a.Protocol == b.Protocol && a.Addr == b.Addr
	})
}

func toEndpoint(ip netip.Addr, p discoveryv1.EndpointPort, ep discoveryv1.Endpoint) snapshot.Endpoint {
	out := snapshot.Endpoint{
		PortName: intern(*p.Name), Protocol: snapshot.TCP, Addr: netip.AddrPortFrom(ip, uint16(*p.Port)),
		Ready: isTrue(ep.Conditions.Ready, true), Serving: isTrue(ep.Conditions.Serving, true), Terminating: isTrue(ep.Conditions.Terminating, false),
	}
	if p.Protocol != nil {
		out.Protocol = protocol(*p.Protocol)
	}
	if ep.NodeName != nil {
		out.Node = intern(*ep.NodeName)
	}
	if ep.Zone != nil {
		out.Zone = intern(*ep.Zone)
	}
	out.Hints = toHints(ep.Hints)
	return out
}

// toHints returns nil if there is no hint.
func toHints(h *discoveryv1.EndpointHints) *snapshot.Hints {
	if h == nil || len(h.ForZones)+len(h.ForNodes) == 0 {
		return nil
	}
	out := &snapshot.Hints{}
	for _, z := range h.ForZones {
		out.ZoneHints = append(out.ZoneHints, intern(z.Name))
	}
	for _, n := range h.ForNodes {
		out.NodeHints = append(out.NodeHints, intern(n.Name))
	}
	return out
}

func isTrue(b *bool, or bool) bool {
	if b == nil {
		return or
	}
	return *b
}

// compareEndpoints is a total order, so that it does not matter in which order
// the slices come.
func compareEndpoints(a, b snapshot.Endpoint) int {
	// Or evaluates all that it is given. Endpoints that differ here are most of them.
	if c := cmp.Or(strings.Compare(a.PortName, b.PortName), cmp.Compare(a.Protocol, b.Protocol), a.Addr.Compare(b.Addr)); c != 0 {
		return c
	}
	return cmp.Or(
		last(a.Terminating, b.Terminating), last(!a.Ready, !b.Ready), last(!a.Serving, !b.Serving), last(a.Node == "", b.Node == ""),
		cmp.Compare(a.Node, b.Node), cmp.Compare(a.Zone, b.Zone),
		slices.Compare(a.ForZones(), b.ForZones()), slices.Compare(a.ForNodes(), b.ForNodes()))
}

// last sorts those for which something is true behind the others.
func last(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
