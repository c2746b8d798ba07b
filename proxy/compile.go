package proxy

import (
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Options are the choices of a cluster, not of a Service.
type Options struct {
	ExternalIPs bool // serve spec.externalIPs (CVE-2020-8554: off by default)
	// Cluster-wide prefixes of Services, beside those of the ServiceCIDR objects.
	ServiceCIDRs []netip.Prefix
	// Refused are where no endpoint may be, beside loopback, link-local, unspecified and
	// multicast addresses. Endpoints there get no connection.
	Refused []netip.Prefix
	// Local says how the packets of this node's pods are known.
	Local Local
	// Routed are the addresses that the node has a route to over a pod's link, sorted.
	// They are read where Local is Auto.
	Routed []netip.Addr
	// Quarantined lists nodes that are gone, though the cluster does not know it yet:
	// their endpoints take no connection as long as the port has others. Sorted.
	Quarantined []string
	// Direct lists the Services whose VIPs are directed, sorted. It leaves out those with
	// externalTrafficPolicy Local.
	Direct []snapshot.Ref
	// Uplinks are links by which other nodes are reached. One whose network the node's
	// pods are in too is none of Table.Uplinks.
	Uplinks []snapshot.Link
	// Ways are Table.Ways.
	Ways []Way
	// Self is the node as it was last known. It stands in where the Snapshot lacks
	// it: a node that still runs keeps forwarding when its Node object is deleted.
	// It may be nil.
	Self *snapshot.Node
	// Own are addresses of the node's links, but for those that it holds as VIPs.
	// Its InternalIPs count without being listed.
	Own []netip.Addr
	// Listening are the ports of the node's own addresses on which its processes listen,
	// sorted. No Service that has the addresses of nodes gets them.
	Listening []Target
}

// Compile decides the whole Table of the node called name, whose node ports
// answer on nodePortAddrs.
func Compile(s *snapshot.Snapshot, name string, nodePortAddrs []netip.Addr, opt Options) *Table {
	return (&Compiler{}).Compile(s, name, nodePortAddrs, opt)
}

// inputs are all that one Service's frontends depend on. They are kept of each Service:
// what most of them have alike they share.
type inputs struct {
	svc    *snapshot.Service
	addrs  *captured
	node   *nodeFacts
	direct bool // in Options.Direct
}

// nodeFacts is what matters of the node.
type nodeFacts struct {
	name, zone  string
	addrs       []netip.Addr
	own         []netip.Addr   // the VIPs that are addresses of the node itself
	quarantined []string       // Options.Quarantined
	refused     []netip.Prefix // Options.Refused
}

type compiled struct {
	in        inputs
	frontends []*Frontend
	hairpin   []Target
	keep      []Target           // endpoints whose clients keep their ports
	here      []netip.Addr       // addresses of endpoints on the node, ready or not
	problems  []snapshot.Problem // by reason
	next      *compiled          // what this is on its way to; nil if it is there: see after
	from      int                // the Frontends before this one are there
}

func (a inputs) equal(b inputs) bool {
	return a.svc == b.svc && a.direct == b.direct && a.node.equal(b.node) && a.addrs.equal(b.addrs)
}

func (a *nodeFacts) equal(b *nodeFacts) bool {
	return a == b || a.name == b.name && a.zone == b.zone && slices.Equal(a.addrs, b.addrs) &&
		slices.Equal(a.own, b.own) && slices.Equal(a.quarantined, b.quarantined) && slices.Equal(a.refused, b.refused)
}

func compileService(in inputs) compiled {
	out, share := compiled{in: in, here: here(in.svc, in.node)}, shareOf(in)
	eps := byPort(in.svc, in.node)
	if in.svc.Anycast {
		in.addrs = servedHere(in, eps)
	}
	for _, port := range in.svc.Ports[:share.ports] {
		for _, ip := range in.svc.ClusterIPs {
			c := choose(eps[portKey{port.Name, port.Protocol, snapshot.FamilyOf(ip)}], in.node)
			c.cluster, c.local, c.nowhere = share.targets(port, c.cluster), share.targets(port, c.local), share.targets(port, c.nowhere)
			out.frontends = append(out.frontends, clusterIP(in.svc, port, ip, c))
			out.frontends = append(out.frontends, external(in, port, snapshot.FamilyOf(ip), c, share)...)
			// Only a node of the endpoint sees a pod that reaches itself (spec 2).
			for _, ep := range c.local {
				out.hairpin = append(out.hairpin, Target{Protocol: port.Protocol, Addr: ep})
			}
			if in.svc.KeepsPorts {
				for _, ep := range c.cluster {
					out.keep = append(out.keep, Target{Protocol: port.Protocol, Addr: ep})
				}
			}
		}
	}
	out.ranges(in, share)
	for _, p := range []*snapshot.Problem{refusal(in.svc, in.node), share.problem(in.svc.Ref)} {
		if p != nil {
			out.problems = append(out.problems, *p)
		}
	}
	return out
}

// here returns the addresses of svc's endpoints on node, sorted.
func here(svc *snapshot.Service, node *nodeFacts) []netip.Addr {
	var out []netip.Addr
	for _, ep := range svc.Endpoints {
		if ep.Node != "" && ep.Node == node.name && !node.refuses(ep.Addr.Addr()) {
			out = append(out, ep.Addr.Addr())
		}
	}
	return sorted(out)
}

func clusterIP(svc *snapshot.Service, port snapshot.Port, ip netip.Addr, c choice) *Frontend {
	f := &Frontend{
		Key:     Key{Kind: ClusterIP, Family: snapshot.FamilyOf(ip), Addr: ip, Protocol: port.Protocol, Port: port.Port},
		Service: svc.Ref, PortName: port.Name, Affinity: AffinityTimeout(svc.Affinity), Cluster: c.cluster, Lost: c.lost, Members: c.only(svc), AllPorts: svc.AllPorts, Helper: helper(svc, port), created: svc.Created.Unix(),
	}
	if svc.InternalTrafficPolicy == snapshot.PolicyLocal {
		f.Cluster = c.local
	}
	f.Serving = c.beyond(f.Cluster)
	switch {
	// Refused where nobody in the cluster serves, dropped where others do (spec 59).
	case !c.anywhere:
		f.Empty = Reject
	case len(f.Cluster) == 0:
		f.Empty = Drop
	}
	return f
}

// external makes the frontends that are reached from outside: the node port,
// the VIPs, the node's own addresses, other providers' and the external IPs.
func external(in inputs, port snapshot.Port, family snapshot.Family, c choice, share *share) []*Frontend {
	svc := in.svc
	base := Frontend{
		Service: svc.Ref, PortName: port.Name, Affinity: AffinityTimeout(svc.Affinity), Cluster: c.cluster, Serving: c.beyond(c.cluster), Lost: c.lost, Members: c.only(svc), AllPorts: svc.AllPorts, Helper: helper(svc, port), created: svc.Created.Unix(),
	}
	switch {
	case svc.ExternalTrafficPolicy != snapshot.PolicyLocal:
	case len(c.local) == 0 && len(c.nowhere) > 0:
		// An endpoint that is on no node is as near to this node as to any other. It may be
		// outside of the cluster, from where answers would not come back through this node if
		// they were sent to the client.
		base.Cluster, base.Serving = c.nowhere, c.beyond(c.nowhere)
	default:
		base.LocalOnly, base.Local = true, c.local
	}
	switch {
	case !c.anywhere:
		base.Empty = Reject
	// A refusal here would tell clients that nobody serves, although another node does (spec 46).
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
	// loadBalancerSourceRanges do not limit node ports (spec 33).
	if port.NodePort != 0 && (svc.Type == snapshot.NodePort || svc.Type == snapshot.LoadBalancer) {
		add(NodePort, netip.Addr{}, port.NodePort)
	}
	allowed := share.allowed(family)
	for _, vip := range ofFamily(family, in.addrs.vips) {
		f := add(VIP, vip, port.Port)
		f.Sources = withNode(allowed, vip, in.node.addrs)
		if in.directs(f) {
			f.Directed = true
			f.Local, f.Nodes = c.directed(in.node)
		}
	}
	for _, t := range in.addrs.nodes {
		if ip := t.Addr.Addr(); t.Protocol == port.Protocol && t.Addr.Port() == port.Port && snapshot.FamilyOf(ip) == family {
			add(ExternalIP, ip, port.Port).Sources = withNode(allowed, ip, in.node.addrs)
		}
	}
	for _, ip := range ofFamily(family, in.addrs.foreign) {
		add(ExternalIP, ip, port.Port).Sources = withNode(allowed, ip, in.node.addrs)
	}
	// Nor spec.externalIPs: the ranges are for addresses of a load balancer (spec 32).
	for _, ip := range ofFamily(family, in.addrs.external) {
		add(ExternalIP, ip, port.Port)
	}
	return out
}

// directs reports whether packets to f, which is a VIP, are directed. A node that passes
// packets on chooses a node for each port, so a client would not have one pod at all of them.
func (in inputs) directs(f *Frontend) bool { return in.direct && !f.LocalOnly && !f.AllPorts }

// helper returns the helper of connections to a port: one reads its own protocol alone.
func helper(svc *snapshot.Service, port snapshot.Port) snapshot.Helper {
	if svc.Helper != "" && svc.Helper.Protocol() == port.Protocol {
		return svc.Helper
	}
	return ""
}

func ofFamily(family snapshot.Family, ips []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(ips), func(ip netip.Addr) bool { return snapshot.FamilyOf(ip) != family })
}

func serviceCIDRs(s *snapshot.Snapshot, opt Options) []netip.Prefix {
	all := slices.Clone(opt.ServiceCIDRs)
	for _, c := range s.ServiceCIDRs {
		all = append(all, c.Prefixes...)
	}
	return merged(all)
}

// merged returns the fewest prefixes that hold the same addresses, sorted; nil
// for none.
func merged(prefixes []netip.Prefix) []netip.Prefix {
	var b netipx.IPSetBuilder
	for _, p := range prefixes {
		b.AddPrefix(p.Masked())
	}
	set, err := b.IPSet()
	if err != nil || len(set.Ranges()) == 0 {
		return nil // an error is about invalid prefixes, which hold no address
	}
	return set.Prefixes()
}
