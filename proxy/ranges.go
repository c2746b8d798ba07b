package proxy

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// rangedVIP is a VIP with ranges of ports.
type rangedVIP struct {
	addr   netip.Addr
	ranges []snapshot.PortRange // sorted
}

func (v rangedVIP) equal(o rangedVIP) bool {
	return v.addr == o.addr && slices.Equal(v.ranges, o.ranges)
}

// byProtocol returns the ranges of each protocol that has some.
func (v rangedVIP) byProtocol() (out [][]snapshot.PortRange) {
	for rest := v.ranges; len(rest) > 0; {
		n := slices.IndexFunc(rest, func(r snapshot.PortRange) bool { return r.Protocol != rest[0].Protocol })
		if n < 0 {
			n = len(rest)
		}
		out, rest = append(out, rest[:n:n]), rest[n:]
	}
	return out
}

// rangedCount is how many Frontends the ranges of all VIPs make.
func rangedCount(vips []rangedVIP) (n int) {
	for _, v := range vips {
		n += len(v.byProtocol())
	}
	return n
}

// ranges adds the Frontends of in's ranges of ports, and what is known of their endpoints.
// There is one for each VIP and protocol, whatever the number of ranges and ports is.
func (out *compiled) ranges(in inputs, share *share) {
	choices := map[snapshot.Family]choice{}
	hairpin, keep := map[Target]bool{}, map[Target]bool{} // two VIPs have the same
	for _, vip := range in.addrs.ranged {
		family := snapshot.FamilyOf(vip.addr)
		c, known := choices[family]
		if !known {
			c = choose(hosts(in.svc, family, in.node), in.node)
			c.cluster, c.local = share.targets(snapshot.Port{}, c.cluster), share.targets(snapshot.Port{}, c.local)
			choices[family] = c
		}
		for _, ranges := range vip.byProtocol() {
			out.frontends = append(out.frontends, rangedFrontend(in, vip.addr, ranges, c, share))
			for _, ep := range c.local {
				hairpin[Target{ranges[0].Protocol, ep}] = true
			}
			for _, ep := range c.cluster {
				keep[Target{ranges[0].Protocol, ep}] = true
			}
		}
	}
	out.hairpin = slices.AppendSeq(out.hairpin, maps.Keys(hairpin))
	if in.svc.KeepsPorts {
		out.keep = slices.AppendSeq(out.keep, maps.Keys(keep))
	}
}

// rangedFrontend is the Frontend of ranges, all of one protocol, at vip.
func rangedFrontend(in inputs, vip netip.Addr, ranges []snapshot.PortRange, c choice, share *share) *Frontend {
	svc, family := in.svc, snapshot.FamilyOf(vip)
	f := &Frontend{
		Key:     Key{Kind: VIP, Family: family, Addr: vip, Protocol: ranges[0].Protocol},
		Service: svc.Ref, Ranges: ranges, created: svc.Created.Unix(), Affinity: AffinityTimeout(svc.Affinity),
		Cluster: c.cluster, Serving: c.beyond(c.cluster), Lost: c.lost, Members: c.only(svc), AllPorts: svc.AllPorts, Sources: withNode(share.allowed(family), vip, in.node.addrs),
	}
	if svc.ExternalTrafficPolicy == snapshot.PolicyLocal {
		f.LocalOnly, f.Local = true, c.local
	}
	if in.directs(f) {
		f.Directed = true
		f.Local, f.Nodes = c.directed(in.node)
	}
	switch {
	case !c.anywhere:
		f.Empty = Reject
	case f.LocalOnly && len(c.local) == 0:
		f.Empty = Drop
	}
	return f
}

// hosts returns the endpoints of one family without their ports, each address once. Of
// several ports of one address the one counts that takes connections, if one does.
func hosts(svc *snapshot.Service, family snapshot.Family, node *nodeFacts) []*snapshot.Endpoint {
	best := map[netip.Addr]*snapshot.Endpoint{}
	for i := range svc.Endpoints {
		ep := &svc.Endpoints[i]
		addr := ep.Addr.Addr()
		if snapshot.FamilyOf(addr) != family || node.refuses(addr) {
			continue
		}
		if was := best[addr]; was == nil || compareHosts(ep, was) < 0 {
			host := *ep
			host.Addr = netip.AddrPortFrom(addr, 0)
			best[addr] = &host
		}
	}
	out := make([]*snapshot.Endpoint, 0, len(best))
	for _, ep := range best {
		out = append(out, ep)
	}
	slices.SortFunc(out, func(a, b *snapshot.Endpoint) int { return a.Addr.Compare(b.Addr) })
	return out
}

// compareHosts orders endpoints of one address: the one to use comes first, whatever the
// order of the EndpointSlices is.
func compareHosts(a, b *snapshot.Endpoint) int {
	return cmp.Or(cmp.Compare(standing(b), standing(a)), strings.Compare(a.Node, b.Node), strings.Compare(a.Zone, b.Zone),
		slices.Compare(a.ForNodes(), b.ForNodes()), slices.Compare(a.ForZones(), b.ForZones()))
}

// standing is greater for an endpoint that is to be used before another.
func standing(ep *snapshot.Endpoint) int {
	switch {
	case ep.Ready:
		return 2
	case ep.Serving && ep.Terminating:
		return 1
	}
	return 0
}

// Ranged returns the Frontend that has the port of to in one of its Ranges, or nil.
// A Frontend with that port as its own goes before it.
func (t *Table) Ranged(protocol snapshot.Protocol, to netip.AddrPort) *Frontend {
	f := t.Frontend(Key{Kind: VIP, Family: snapshot.FamilyOf(to.Addr()), Addr: to.Addr(), Protocol: protocol})
	if f == nil || !slices.ContainsFunc(f.Ranges, func(r snapshot.PortRange) bool { return r.Contains(to.Port()) }) {
		return nil
	}
	return f
}

// at returns the endpoints as a packet for port reaches them.
func (f *Frontend) at(eps []netip.AddrPort, port uint16) []netip.AddrPort {
	if !f.Ranged() {
		return eps
	}
	out := make([]netip.AddrPort, len(eps))
	for i, ep := range eps {
		out[i] = netip.AddrPortFrom(ep.Addr(), port)
	}
	return out
}

// ports prints the Ranges of f.
func (f *Frontend) ports() string {
	texts := make([]string, len(f.Ranges))
	for i, r := range f.Ranges {
		texts[i] = r.Ports()
	}
	return strings.Join(texts, ",")
}
