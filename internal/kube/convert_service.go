package kube

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// defaultAffinity is Kubernetes' default sessionAffinityConfig timeout, seconds.
const defaultAffinity = 10800

func uidOf(s string) types.UID { return types.UID(s) }

// toService makes one Service of the object and its EndpointSlices.
func toService(s *corev1.Service, slices []*discoveryv1.EndpointSlice) *snapshot.Service {
	out := &snapshot.Service{
		Ref: snapshot.Ref{Namespace: s.Namespace, Name: s.Name}, UID: string(s.UID), Created: s.CreationTimestamp.Time,
		Labels: s.Labels, Annotations: s.Annotations, Finalizers: s.Finalizers, Deleting: s.DeletionTimestamp != nil,
		Type: snapshot.ServiceType(s.Spec.Type), Headless: s.Spec.ClusterIP == corev1.ClusterIPNone,
		ExternalTrafficPolicy: snapshot.Policy(s.Spec.ExternalTrafficPolicy),
		SourceRanges:          s.Spec.LoadBalancerSourceRanges, HealthCheckNodePort: uint16(s.Spec.HealthCheckNodePort),
		PublishNotReady: s.Spec.PublishNotReadyAddresses, LoadBalancerIP: s.Spec.LoadBalancerIP,
		Selector: s.Spec.Selector, Conditions: toConditions(s.Status.Conditions),
	}
	if s.Spec.InternalTrafficPolicy != nil {
		out.InternalTrafficPolicy = snapshot.Policy(*s.Spec.InternalTrafficPolicy)
	}
	if s.Spec.LoadBalancerClass != nil {
		out.Class = *s.Spec.LoadBalancerClass
	}
	if s.Spec.IPFamilyPolicy != nil {
		out.FamilyPolicy = snapshot.FamilyPolicy(*s.Spec.IPFamilyPolicy)
	}
	if s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		out.Affinity = seconds(affinitySeconds(s), defaultAffinity)
	}
	addresses(out, s)
	for _, p := range s.Spec.Ports {
		out.Ports = append(out.Ports, snapshot.Port{Name: p.Name, Protocol: protocol(p.Protocol), Port: uint16(p.Port), NodePort: uint16(p.NodePort)})
	}
	out.Endpoints, out.LeftOut = boundedEndpoints(s, slices)
	return out
}

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

// toEndpoints makes the union of all slices of one Service. Ports without a name
// or a number are passed over; of two entries with the same address and port the
// one counts that is not terminating, is ready, serves and has a node, in this
// order.
func toEndpoints(all []*discoveryv1.EndpointSlice) []snapshot.Endpoint {
	var out []snapshot.Endpoint
	for _, sl := range all {
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
	}
	return union(out)
}

// takes reports whether a port of a slice has a name and a number.
func takes(p discoveryv1.EndpointPort) bool {
	return p.Name != nil && p.Port != nil && *p.Port >= 1 && *p.Port <= 65535
}

// union sorts endpoints and leaves one of each address and port.
func union(all []snapshot.Endpoint) []snapshot.Endpoint {
	slices.SortFunc(all, compareEndpoints)
	return slices.CompactFunc(all, func(a, b snapshot.Endpoint) bool {
		return a.PortName == b.PortName && a.Protocol == b.Protocol && a.Addr == b.Addr
	})
}

func toEndpoint(ip netip.Addr, p discoveryv1.EndpointPort, ep discoveryv1.Endpoint) snapshot.Endpoint {
	out := snapshot.Endpoint{
		PortName: *p.Name, Protocol: snapshot.TCP, Addr: netip.AddrPortFrom(ip, uint16(*p.Port)),
		Ready: isTrue(ep.Conditions.Ready, true), Serving: isTrue(ep.Conditions.Serving, true), Terminating: isTrue(ep.Conditions.Terminating, false),
	}
	if p.Protocol != nil {
		out.Protocol = protocol(*p.Protocol)
	}
	if ep.NodeName != nil {
		out.Node = *ep.NodeName
	}
	if ep.Zone != nil {
		out.Zone = *ep.Zone
	}
	if ep.Hints != nil {
		for _, z := range ep.Hints.ForZones {
			out.ZoneHints = append(out.ZoneHints, z.Name)
		}
		for _, n := range ep.Hints.ForNodes {
			out.NodeHints = append(out.NodeHints, n.Name)
		}
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
		slices.Compare(a.ZoneHints, b.ZoneHints), slices.Compare(a.NodeHints, b.NodeHints))
}

// last sorts those of which something is true behind the others.
func last(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
