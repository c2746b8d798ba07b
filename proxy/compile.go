package proxy

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Options are the choices of a cluster, not of a Service.
type Options struct {
	ExternalIPs bool // serve spec.externalIPs (CVE-2020-8554: off by default)
	// Cluster-wide prefixes of Services, beside those of the ServiceCIDR objects.
	ServiceCIDRs []netip.Prefix
}

// Compile decides the whole Table of the node called name, whose node ports
// answer on nodePortAddrs.
func Compile(s *snapshot.Snapshot, name string, nodePortAddrs []netip.Addr, opt Options) *Table {
	return (&Compiler{}).Compile(s, name, nodePortAddrs, opt)
}

// Compiler is Compile with a memory: a Service whose inputs are the same as the
// last time is not compiled again. The result never depends on the memory.
type Compiler struct {
	memo map[snapshot.Ref]compiled
}

// inputs are all that one Service's frontends depend on.
type inputs struct {
	svc  *snapshot.Service
	vips []netip.Addr
	node place
	opt  bool // ExternalIPs
}

// place is what matters of the node.
type place struct {
	name, zone string
	addrs      []netip.Addr
}

type compiled struct {
	in        inputs
	frontends []*Frontend
	hairpin   []Target
}

// Compile is like the function Compile.
func (c *Compiler) Compile(s *snapshot.Snapshot, name string, nodePortAddrs []netip.Addr, opt Options) *Table {
	here := place{name: name}
	t := &Table{NodePortAddrs: slices.Clone(nodePortAddrs), ServiceCIDRs: serviceCIDRs(s, opt)}
	slices.SortFunc(t.NodePortAddrs, netip.Addr.Compare)
	if n := s.Node(name); n != nil {
		here.zone, here.addrs = n.Zone, n.InternalIPs
		t.LocalPods = slices.Clone(n.PodCIDRs)
		slices.SortFunc(t.LocalPods, netip.Prefix.Compare)
	}
	vips := capturedVIPs(s)
	next := make(map[snapshot.Ref]compiled, len(s.Services))
	for _, svc := range s.Services {
		if !served(svc) {
			continue
		}
		in := inputs{svc: svc, vips: vips[svc.Ref], node: here, opt: opt.ExternalIPs}
		done, ok := c.memo[svc.Ref]
		if !ok || !done.in.equal(in) {
			done = compileService(in)
		}
		next[svc.Ref] = done
		t.Frontends = append(t.Frontends, done.frontends...)
		t.Hairpin = append(t.Hairpin, done.hairpin...)
	}
	c.memo = next
	slices.SortFunc(t.Frontends, func(a, b *Frontend) int { return a.Key.Compare(b.Key) })
	t.Frontends = withoutClashes(t.Frontends)
	slices.SortFunc(t.Hairpin, Target.Compare)
	t.Hairpin = slices.Compact(t.Hairpin)
	return t
}

func (a inputs) equal(b inputs) bool {
	return a.svc == b.svc && a.opt == b.opt && a.node.name == b.node.name && a.node.zone == b.node.zone &&
		slices.Equal(a.node.addrs, b.node.addrs) && slices.Equal(a.vips, b.vips)
}

// The labels of Services that somebody else serves.
const (
	proxyNameLabel = "service.kubernetes.io/service-proxy-name"
	headlessLabel  = "service.kubernetes.io/headless"
)

// served tells whether the engine has anything to do for svc.
func served(svc *snapshot.Service) bool {
	if svc.Type == snapshot.ExternalName || svc.Headless || len(svc.ClusterIPs) == 0 {
		return false
	}
	_, foreign := svc.Labels[proxyNameLabel]
	_, headless := svc.Labels[headlessLabel]
	return !foreign && !headless
}

func compileService(in inputs) compiled {
	out := compiled{in: in}
	for _, port := range in.svc.Ports {
		for _, ip := range in.svc.ClusterIPs {
			c := choose(in.svc, port, snapshot.FamilyOf(ip), in.node.name, in.node.zone)
			out.frontends = append(out.frontends, clusterIP(in.svc, port, ip, c))
			out.frontends = append(out.frontends, external(in, port, snapshot.FamilyOf(ip), c)...)
			for _, ep := range c.local {
				out.hairpin = append(out.hairpin, Target{Protocol: port.Protocol, Addr: ep})
			}
		}
	}
	return out
}

func clusterIP(svc *snapshot.Service, port snapshot.Port, ip netip.Addr, c choice) *Frontend {
	f := &Frontend{
		Key:     Key{Kind: ClusterIP, Family: snapshot.FamilyOf(ip), Addr: ip, Protocol: port.Protocol, Port: port.Port},
		Service: svc.Ref, PortName: port.Name, Affinity: svc.Affinity, Cluster: c.cluster,
	}
	if svc.InternalTrafficPolicy == snapshot.PolicyLocal {
		f.Cluster = c.local
	}
	switch {
	case !c.any:
		f.Empty = Reject
	case len(f.Cluster) == 0:
		f.Empty = Drop
	}
	return f
}

// external makes the frontends that are reached from outside: the node port,
// the VIPs and, with the option, the external IPs.
func external(in inputs, port snapshot.Port, family snapshot.Family, c choice) []*Frontend {
	svc := in.svc
	base := Frontend{Service: svc.Ref, PortName: port.Name, Affinity: svc.Affinity, Cluster: c.cluster}
	if svc.ExternalTrafficPolicy == snapshot.PolicyLocal {
		base.LocalOnly, base.Local = true, c.local
	}
	switch {
	case !c.any:
		base.Empty = Reject
	case base.LocalOnly && len(c.local) == 0:
		base.Empty = Drop
	}
	var out []*Frontend
	add := func(kind Kind, addr netip.Addr, number uint16) *Frontend {
		f := base
		f.Key = Key{Kind: kind, Family: family, Addr: addr, Protocol: port.Protocol, Port: number}
		out = append(out, &f)
		return &f
	}
	if port.NodePort != 0 && (svc.Type == snapshot.NodePort || svc.Type == snapshot.LoadBalancer) {
		add(NodePort, netip.Addr{}, port.NodePort)
	}
	for _, vip := range in.vips {
		if snapshot.FamilyOf(vip) == family {
			add(VIP, vip, port.Port).Sources = withNode(sources(svc.SourceRanges, family), vip, in.node.addrs)
		}
	}
	for _, ip := range svc.ExternalIPs {
		if in.opt && snapshot.FamilyOf(ip) == family {
			add(ExternalIP, ip, port.Port)
		}
	}
	return out
}

// withoutClashes keeps the first of the frontends that the same packets would
// match (a VIP that is also a cluster IP, two external IPs): the order of Keys
// is the order of precedence.
func withoutClashes(fs []*Frontend) []*Frontend {
	type match struct {
		family snapshot.Family
		addr   netip.Addr
		proto  snapshot.Protocol
		port   uint16
	}
	seen := make(map[match]bool, len(fs))
	return slices.DeleteFunc(fs, func(f *Frontend) bool {
		m := match{f.Family, f.Addr, f.Protocol, f.Port}
		was := seen[m]
		seen[m] = true
		return was
	})
}

func serviceCIDRs(s *snapshot.Snapshot, opt Options) []netip.Prefix {
	out := slices.Clone(opt.ServiceCIDRs)
	for _, c := range s.ServiceCIDRs {
		out = append(out, c.Prefixes...)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}
