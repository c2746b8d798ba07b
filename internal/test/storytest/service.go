package storytest

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/snapshot"
)

func service(s *snapshot.Snapshot, name string, a *attrs) {
	r, err := ref(name)
	if err != nil {
		a.errs = append(a.errs, err)
	}
	out := &snapshot.Service{
		Ref: r, UID: cmp.Or(a.text("uid"), a.uid(name)), Created: a.created(), Deleting: a.flag("deleting"),
		Type: snapshot.ServiceType(cmp.Or(a.text("type"), string(snapshot.LoadBalancer))), Class: a.text("class"),
		Labels: a.labels("labels"), Selector: a.labels("selector"), Annotations: annotations(a), Headless: a.flag("headless"),
		ExternalIPs: a.addrs("externalIPs"), SourceRanges: a.list("ranges"), LoadBalancerIP: a.text("loadBalancerIP"),
		ExternalTrafficPolicy: snapshot.Policy(a.text("external")), InternalTrafficPolicy: snapshot.Policy(a.text("internal")),
		Ports: each(a, list(cmp.Or(a.text("ports"), "tcp/80")), port), Ingress: each(a, a.list("status"), ingress), Affinity: a.span("affinity"),
	}
	out.Choose(out.Annotations)
	families(out, a)
	s.Services = append(s.Services, out)
}

// families sets the families of a Service and its cluster IPs.
func families(svc *snapshot.Service, a *attrs) {
	policy := cmp.Or(a.text("policy"), "Single")
	known := map[string]snapshot.FamilyPolicy{"Single": snapshot.SingleStack, "Prefer": snapshot.PreferDualStack, "Require": snapshot.RequireDualStack}
	if svc.FamilyPolicy = known[policy]; svc.FamilyPolicy == "" {
		a.errs = append(a.errs, fmt.Errorf("no policy %q", policy))
	}
	ips := a.text("ip")
	if ips == "" && svc.Headless {
		ips = "none"
	}
	if ips != "none" {
		svc.ClusterIPs = each(a, list(ips), netip.ParseAddr)
	}
	want := a.list("families")
	switch {
	case len(want) > 0:
	case len(svc.ClusterIPs) > 0:
		for _, ip := range svc.ClusterIPs {
			svc.Families = append(svc.Families, snapshot.FamilyOf(ip))
		}
	case policy == "Single":
		want = []string{"4"}
	default:
		want = []string{"4", "6"}
	}
	svc.Families = append(svc.Families, each(a, want, family)...)
	for _, f := range svc.Families {
		if ips == "" {
			svc.ClusterIPs = append(svc.ClusterIPs, map[snapshot.Family]netip.Addr{snapshot.IPv4: clusterIPv4, snapshot.IPv6: clusterIPv6}[f])
		}
	}
}

var clusterIPv4, clusterIPv6 = netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00::10")

func family(text string) (snapshot.Family, error) {
	switch text {
	case "4":
		return snapshot.IPv4, nil
	case "6":
		return snapshot.IPv6, nil
	}
	return 0, fmt.Errorf("no family %q", text)
}

// annotations returns those that an attribute stands for, and those that are
// written out.
func annotations(a *attrs) map[string]string {
	out := map[string]string{}
	for name, key := range map[string]string{"addresses": allocator.AnnotationAddresses, "pool": allocator.AnnotationPool,
		"key": allocator.AnnotationShareKey, "share": allocator.AnnotationShareNamespaces, "forwarding": allocator.AnnotationForwarding, "egress": allocator.AnnotationEgress,
		"anycast": allocator.AnnotationAnycast, "portranges": allocator.AnnotationPorts, "removed": snapshot.AnnotationRemoved} {
		if _, given := a.values[name]; given {
			out[key] = a.text(name)
		}
	}
	for name := range a.values {
		if key, ok := strings.CutPrefix(name, "note:"); ok {
			out[key] = a.text(name)
		}
	}
	return out
}

// port reads [NAME:]PROTO/PORT[/NODEPORT].
func port(text string) (snapshot.Port, error) {
	name, rest, named := strings.Cut(text, ":")
	if !named {
		name, rest = "", text
	}
	parts := append(strings.Split(rest, "/"), "0", "0")
	proto, err := protocol(parts[0])
	if err != nil {
		return snapshot.Port{}, err
	}
	number, err := strconv.ParseUint(parts[1], 10, 16)
	if err != nil {
		return snapshot.Port{}, err
	}
	nodePort, err := strconv.ParseUint(parts[2], 10, 16)
	return snapshot.Port{Name: name, Protocol: proto, Port: uint16(number), NodePort: uint16(nodePort)}, err
}

// ingress reads ADDR or ADDR@Proxy; a word that is not an address is a host name.
func ingress(text string) (snapshot.Ingress, error) {
	text, proxied := strings.CutSuffix(text, "@Proxy")
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return snapshot.Ingress{Hostname: text}, nil //nolint:nilerr // an ingress may have a host name alone
	}
	return snapshot.Ingress{IP: ip, Proxy: proxied}, nil
}

func endpoint(s *snapshot.Snapshot, name string, a *attrs) {
	r, err := ref(name)
	at := slices.IndexFunc(s.Services, func(svc *snapshot.Service) bool { return svc.Ref == r })
	if err != nil || at < 0 {
		a.errs = append(a.errs, fmt.Errorf("there is no Service %q", name))
		return
	}
	svc := s.Services[at]
	svc.Endpoints = append(svc.Endpoints, snapshot.Endpoint{
		PortName: a.text("port"), Protocol: each(a, []string{a.text("proto")}, protocol)[0],
		Addr: each(a, []string{a.text("addr")}, netip.ParseAddrPort)[0], Node: a.text("node"),
		Hints: hints(a.list("zones"), a.list("nodes")),
		Ready: !a.flag("unready"), Serving: !a.flag("unserving"), Terminating: a.flag("terminating"),
	})
}

func hints(zones, nodes []string) *snapshot.Hints {
	if len(zones)+len(nodes) == 0 {
		return nil
	}
	return &snapshot.Hints{ZoneHints: zones, NodeHints: nodes}
}
