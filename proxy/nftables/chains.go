package nftables

import (
	"slices"
	"time"
)

func (l *Layout) frontendKey(v variant) []Field {
	if v.nodePort {
		return []Field{fieldProto, fieldService}
	}
	return []Field{l.addr, fieldProto, fieldService}
}

func (l *Layout) epMap(v variant, i int) Set {
	return Set{Name: v.ep(i), Key: l.frontendKey(v), Data: []Field{l.addr, fieldService}}
}

func (l *Layout) affinitySet(v variant, i int) Set {
	return Set{Name: v.affinity(i), Key: append([]Field{l.addr}, l.frontendKey(v)...), dynamic: true}
}

func (l *Layout) fixedSets() []Set {
	addr := []Field{l.addr}
	vip, np := l.frontendKey(variant{}), l.frontendKey(variant{nodePort: true})
	sets := []Set{
		{Name: setClusterIPs, Key: addr},
		{Name: setVIPs, Key: addr},
		{Name: setExternalIPs, Key: addr},
		{Name: setNodePortIPs, Key: addr},
		{Name: setNodePorts, Key: np},
		{Name: setServiceCIDRs, Key: addr, Interval: true},
		{Name: setLocalPods, Key: addr, Interval: true},
		{Name: setKeepSource, Key: addr, Interval: true},
		{Name: setLocalLinks, Key: []Field{FieldLink}, Interval: true},
		{Name: setHairpin, Key: []Field{l.addr, l.addr, fieldProto, fieldService}},
		{Name: mapPing, Key: []Field{fieldProto}, Data: addr},
		{Name: setVIPPorts, Key: vip},
		{Name: setSourceVIPs, Key: vip},
		{Name: SetSourceAllow, Key: append(slices.Clone(vip), l.addr), Interval: true},
		{Name: mapExternal, Key: vip, Verdict: true},
		{Name: mapNoEndpoints, Key: vip, Verdict: true},
		{Name: "np-" + mapExternal, Key: np, Verdict: true},
		{Name: "np-" + mapNoEndpoints, Key: np, Verdict: true},
	}
	for _, v := range variants {
		sets = append(sets, Set{Name: v.frontends(), Key: l.frontendKey(v), Verdict: true})
	}
	return sets
}

// SetSourceAllow is the name of the set with ranges in a concatenation, which older
// kernels lack.
const SetSourceAllow = "lbsr-allow"

// The names of the other sets, maps and chains that exist once.
const (
	setClusterIPs   = "cluster-ips"
	setVIPs         = "vips"
	setExternalIPs  = "external-ips"
	setNodePortIPs  = "nodeport-ips"
	setNodePorts    = "nodeports"
	setServiceCIDRs = "service-cidrs"
	setLocalPods    = "local-pods"
	setKeepSource   = "keep-source"
	setLocalLinks   = "local-links"
	setHairpin      = "hairpin"
	setVIPPorts     = "vip-ports"
	setSourceVIPs   = "lbsr-vips"
	mapPing         = "ping"
	mapExternal     = "external"
	mapNoEndpoints  = "no-endpoints"

	chainCluster    = "cluster"
	chainExtCluster = "ext-cluster"
	chainExtLocal   = "ext-local"
	chainRefuse     = "refuse"
	chainServices   = "services"
	chainNoService  = "no-service"
	chainSources    = "source-ranges"
	chainInvalid    = "invalid"
	chainUnused     = "unused-ports"
)

var (
	hookSourcesIn  = &Hook{"filter", pointPrerouting, -110}
	hookSourcesOut = &Hook{"filter", pointOutput, -110}
	// Whoever translates a packet first wins, and others do it at -100.
	hookDNATIn  = &Hook{"nat", pointPrerouting, -105}
	hookDNATOut = &Hook{"nat", pointOutput, -105}
	hookInput   = &Hook{"filter", pointInput, 0}
	hookForward = &Hook{"filter", pointForward, 0}
	hookOutput  = &Hook{"filter", pointOutput, 0}
	hookSNAT    = &Hook{"nat", pointPostrouting, 100}
)

func (l *Layout) fixedChains() []Chain {
	return slices.Concat([]Chain{{Name: versionChain()}, l.invalidChain()}, l.sourceChains(), l.natChains(), l.externalChains(variant{}),
		l.externalChains(variant{nodePort: true}), l.filterChains(), l.masqueradeChains())
}

func (l *Layout) sourceChains() []Chain {
	return []Chain{
		{chainSources, nil, []Rule{l.rule(
			in(setSourceVIPs, Daddr, Proto, Dport), notIn(SetSourceAllow, Daddr, Proto, Dport, Saddr), drop())}},
		l.unusedChain(),
		{"sources-prerouting", hookSourcesIn, l.beforeNAT()},
		{"sources-output", hookSourcesOut, l.beforeNAT()},
	}
}

// beforeNAT are the rules that look at packets before anybody translates them.
func (l *Layout) beforeNAT() []Rule {
	return []Rule{
		l.rule(ctInvalid(), jump(chainInvalid)), l.rule(ctNew(), jump(chainSources)),
		l.rule(ctNew(), in(setVIPs, Daddr), jump(chainUnused)),
	}
}

// unusedChain refuses what is sent to a port of a VIP that no Service has, before the
// rules of others for that port number can take it.
func (l *Layout) unusedChain() Chain {
	return Chain{chainUnused, nil, []Rule{
		l.rule(echoRequest(), accept()),
		l.rule(notIn(setVIPPorts, Daddr, Proto, Dport), goTo(chainRefuse)),
	}}
}

// invalidChain drops what belongs to no connection and is sent to a Service.
// Connection tracking does not translate such a packet. Where the address is one of
// the node, the node's own TCP would answer with a reset, which ends the client's
// connection. Elsewhere the packet would go around between router and node. Of the
// node's own addresses only the node ports are meant.
func (l *Layout) invalidChain() Chain {
	return Chain{chainInvalid, nil, []Rule{
		l.rule(in(setVIPs, Daddr), drop()),
		l.rule(in(setClusterIPs, Daddr), drop()),
		l.rule(in(setExternalIPs, Daddr), drop()),
		l.rule(in(setNodePortIPs, Daddr), in(setNodePorts, Proto, Dport), drop()),
	}}
}

// adopted refuses a segment that opens no connection. Connection tracking takes it
// for the first one of a connection if it forgot that connection, or never knew it
// because another node had the address before (net.netfilter.nf_conntrack_tcp_loose).
// An endpoint that is chosen for it now need not be the connection's.
func (l *Layout) adopted() Rule { return l.rule(opensNothing(), goTo(chainRefuse)) }

func (l *Layout) natChains() []Chain {
	return []Chain{
		{chainServices, nil, []Rule{
			l.rule(vmap(mapExternal, Daddr, Proto, Dport)),
			l.rule(vmap(mapExternal, Daddr, Proto, Dport)),
			l.rule(in(setClusterIPs, Daddr), goTo(chainCluster)),
			l.rule(in(setNodePortIPs, Daddr), vmap("np-"+mapExternal, Proto, Dport)),
			l.rule(in(setNodePortIPs, Daddr), vmap("np-"+mapExternal, Proto, Dport)),
			l.rule(in(setVIPs, Daddr), echoRequest(), dnatAddr(mapPing, Proto)),
			// redirect drops the packet if the link that it came in from has no address.
			l.rule(in(setVIPs, Daddr), echoRequest(), redirect()),
		}},
		{chainCluster, nil, []Rule{
			l.adopted(),
			l.rule(notIn(setKeepSource, Saddr), notIn(setLocalLinks, Iif), setMark(l.mark)),
			l.toFrontends(variant{}), l.toFrontends(variant{}),
		}},
		{"prerouting", hookDNATIn, []Rule{l.rule(jump(chainServices))}},
		{"output", hookDNATOut, []Rule{l.rule(jump(chainServices))}},
	}
}

// selectors returns what a frontend is looked up by.
func (v variant) selectors() []Selector {
	if v.nodePort {
		return []Selector{Proto, Dport}
	}
	return []Selector{Daddr, Proto, Dport}
}

// externalChains are the two ways to a Frontend from outside. Who finds nothing
// at the end of ext-local is dropped: there are endpoints elsewhere only, or the
// policy changed from Local to Cluster while the packet was on its way.
func (l *Layout) externalChains(v variant) []Chain {
	extCluster, extLocal := chainExtCluster, chainExtLocal
	if v.nodePort {
		extCluster, extLocal = "np-"+extCluster, "np-"+extLocal
	}
	return []Chain{
		{extCluster, nil, []Rule{
			l.adopted(),
			l.rule(setMark(l.mark)),
			l.toFrontends(v), l.toFrontends(v),
		}},
		{extLocal, nil, []Rule{
			l.adopted(),
			l.rule(in(setLocalPods, Saddr), vmap(v.frontends(), v.selectors()...)),
			l.rule(in(setLocalPods, Saddr), vmap(v.frontends(), v.selectors()...)),
			l.rule(in(setLocalLinks, Iif), vmap(v.frontends(), v.selectors()...)),
			l.rule(in(setLocalLinks, Iif), vmap(v.frontends(), v.selectors()...)),
			l.rule(sourceIsOurs(), goTo(extCluster)),
			l.toFrontends(variant{v.nodePort, true}), l.toFrontends(variant{v.nodePort, true}),
			l.rule(drop()),
		}},
	}
}

// toFrontends looks the Frontend up. Its users have the rule twice: a packet
// that looks while a transaction replaces the element sees the old generation
// of the map, from which the old element is gone already. The second look sees
// the new one; without it the packet would be refused as for an undefined port.
func (l *Layout) toFrontends(v variant) Rule { return l.rule(vmap(v.frontends(), v.selectors()...)) }

func (l *Layout) filterChains() []Chain {
	return []Chain{
		{chainRefuse, nil, []Rule{l.rule(rejectTCP()), l.rule(reject())}},
		{chainNoService, nil, []Rule{
			l.rule(vmap(mapNoEndpoints, Daddr, Proto, Dport)),
			l.rule(in(setClusterIPs, Daddr), goTo(chainRefuse)),
			l.rule(in(setServiceCIDRs, Daddr), drop()),
			l.rule(in(setNodePortIPs, Daddr), vmap("np-"+mapNoEndpoints, Proto, Dport)),
		}},
		{"filter-input", hookInput, []Rule{l.rule(ctNew(), jump(chainNoService))}},
		{"filter-forward", hookForward, []Rule{l.rule(ctNew(), jump(chainNoService)), l.unforwarded(), l.untranslated()}},
		{"filter-output", hookOutput, []Rule{l.rule(ctNew(), jump(chainNoService)), l.unforwarded(), l.untranslated()}},
	}
}

// unforwarded refuses what is still sent to a VIP after all translation: it would go
// around between router and node. What comes in at the filter for input does so because
// the VIP is an address of a link, as kube-proxy makes it for IPVS, which takes the
// packet later.
func (l *Layout) unforwarded() Rule {
	return l.rule(ctNew(), in(setVIPs, Daddr), goTo(chainRefuse))
}

// untranslated drops what an endpoint of this node sends outside of its
// connection's window: connection tracking does not translate it back, and a
// client that sees the endpoint's own address answers with a reset.
func (l *Layout) untranslated() Rule {
	return l.rule(ctInvalid(), in(setHairpin, Saddr, Saddr, Proto, Sport), drop())
}

func (l *Layout) masqueradeChains() []Chain {
	return []Chain{{"postrouting", hookSNAT, []Rule{
		l.rule(marked(l.mark), clearMark(l.mark), masquerade()),
		l.rule(ctDNAT(), in(setHairpin, Saddr, Daddr, Proto, Dport), masquerade()),
	}}}
}

// slotChain sends to slot i, looking twice as toFrontends does. A packet whose
// Frontend loses that slot while it is on its way goes to slot 0; and nowhere
// rather than on without NAT, because its conntrack entry would then keep every
// retry from being translated.
func (l *Layout) slotChain(v variant, i int) Chain {
	own, first := l.rule(dnat(v.ep(i), v.selectors()...)), l.rule(dnat(v.ep(0), v.selectors()...))
	c := Chain{Name: v.slot(i), Rules: []Rule{own, own}}
	if i > 0 {
		c.Rules = append(c.Rules, first)
	}
	c.Rules = append(c.Rules, l.rule(drop()))
	return c
}

// balanceChain spreads over slots. A packet that is in it while a transaction
// replaces its rules can find the map of the old ones empty; it is dropped and
// sent again.
func (l *Layout) balanceChain(b balance) Chain {
	c := Chain{Name: b.String()}
	targets := make([]string, b.n)
	for i := range targets {
		targets[i] = b.slot(i)
		if b.sticky > 0 {
			targets[i] = b.stick(i, b.sticky)
			c.Rules = append(c.Rules, l.rule(in(b.affinity(i), b.client()...), goTo(targets[i])))
		}
	}
	c.Rules = append(c.Rules, l.rule(spread(targets)), l.rule(drop()))
	return c
}

// client is what affinity remembers.
func (v variant) client() []Selector { return append([]Selector{Saddr}, v.selectors()...) }

// stickChain remembers and forwards in two rules: a full set fails only the first.
func (l *Layout) stickChain(v variant, i, seconds int) Chain {
	return Chain{Name: v.stick(i, seconds), Rules: []Rule{
		l.rule(update(v.affinity(i), time.Duration(seconds)*time.Second, v.client()...)),
		l.rule(goTo(v.slot(i))),
	}}
}
