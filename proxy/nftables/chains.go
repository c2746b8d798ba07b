package nftables

import (
	"slices"
	"time"
)

func (l *Layout) frontendKey(v variant) []Field {
	switch v.by {
	case byNodePort:
		return []Field{fieldProto, fieldService}
	case byRange:
		return []Field{l.addr, fieldProto}
	}
	return []Field{l.addr, fieldProto, fieldService}
}

func (l *Layout) epMap(v variant, i int) Set {
	s := Set{Name: v.ep(i), Key: l.frontendKey(v), Data: []Field{l.addr, fieldService}}
	if v.by == byRange { // a packet keeps its port
		s.Data = s.Data[:1]
	}
	return s
}

func (l *Layout) affinitySet(v variant, i int) Set {
	return Set{Name: v.affinity(i), Key: append([]Field{l.addr}, l.frontendKey(v)...), dynamic: true}
}

func (l *Layout) fixedSets() []Set {
	addr := []Field{l.addr}
	vip, np, ranged := l.frontendKey(variant{}), l.frontendKey(variant{by: byNodePort}), l.frontendKey(variant{by: byRange})
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
		{Name: setDirected, Key: vip},
		{Name: setUplinks, Key: []Field{FieldLink}},
		{Name: mapWays, Key: []Field{FieldLink}, Verdict: true},
		{Name: setVRFs, Key: []Field{FieldLink}},
		{Name: setExternal, Key: vip},
		{Name: setExternalCluster, Key: vip},
		{Name: setNodePortsCluster, Key: np},
		{Name: mapNoEndpoints, Key: vip, Verdict: true},
		{Name: "np-" + mapNoEndpoints, Key: np, Verdict: true},
		{Name: setRangePorts, Key: vip, Interval: true},
		{Name: setRangeCluster, Key: ranged},
		{Name: setRangeDirected, Key: ranged},
		{Name: setRangeHairpin, Key: []Field{l.addr, l.addr, fieldProto}},
		{Name: setRangeSources, Key: ranged},
		{Name: setRangeAllow, Key: append(slices.Clone(ranged), l.addr), Interval: true},
		{Name: mapRangeNoEndpoints, Key: ranged, Verdict: true},
		{Name: setKeepPorts, Key: vip},
		{Name: setRangeKeep, Key: ranged},
	}
	for _, v := range variants {
		sets = append(sets, Set{Name: v.frontends(), Key: l.frontendKey(v), Verdict: true})
		if !v.local {
			sets = append(sets, Set{Name: v.share(), Key: l.frontendKey(v), dynamic: true}, Set{Name: v.full(), Key: l.frontendKey(v), dynamic: true})
		}
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
	setExternal     = "external-all"
	setServiceCIDRs = "service-cidrs"
	setLocalPods    = "local-pods"
	setKeepSource   = "keep-source"
	setLocalLinks   = "local-links"
	setHairpin      = "hairpin"
	setVIPPorts     = "vip-ports"
	setDirected     = "directed"
	setUplinks      = "uplinks"
	setVRFs         = "vrfs"
	setSourceVIPs   = "lbsr-vips"
	setKeepPorts    = "keep-ports"
	mapPing         = "ping"
	mapNoEndpoints  = "no-endpoints"
	mapWays         = "ways"

	setExternalCluster  = "external-cluster"
	setNodePortsCluster = "nodeports-cluster"

	setRangePorts       = "range-ports" // the only one that has the ports
	setRangeCluster     = "range-cluster"
	setRangeDirected    = "range-directed"
	setRangeHairpin     = "range-hairpin"
	setRangeKeep        = "range-keep-ports"
	setRangeSources     = "range-lbsr-vips"
	setRangeAllow       = "range-lbsr-allow"
	mapRangeNoEndpoints = "range-no-endpoints"

	chainCluster    = "cluster"
	chainExtCluster = "ext-cluster"
	chainExtLocal   = "ext-local"
	chainClassify   = "classify"
	chainNodePorts  = "nodeports"
	chainRanges     = "ranges"
	chainRefuse     = "refuse"
	chainServices   = "services"
	chainNoService  = "no-service"
	chainSources    = "source-ranges"
	chainInvalid    = "invalid"
	chainUnused     = "unused-ports"
	chainGone       = "gone-endpoints"
	chainReset      = "reset-client"
)

var (
	// Nobody looks for a connection before the reset: it needs none.
	hookReset      = &Hook{"filter", pointPrerouting, -300}
	hookSourcesIn  = &Hook{"filter", pointPrerouting, -110}
	hookSourcesOut = &Hook{"filter", pointOutput, -110}
	// The first one that translates a packet wins, and others do it at -100.
	hookDNATIn  = &Hook{"nat", pointPrerouting, -105}
	hookDNATOut = &Hook{"nat", pointOutput, -105}
	// After the translation of others too.
	hookTranslated = &Hook{"filter", pointPrerouting, -95}
	hookInput      = &Hook{"filter", pointInput, 0}
	hookForward    = &Hook{"filter", pointForward, 0}
	hookOutput     = &Hook{"filter", pointOutput, 0}
	hookSNAT       = &Hook{"nat", pointPostrouting, 100}
)

func (l *Layout) fixedChains() []Chain {
	return slices.Concat([]Chain{{Name: VersionChain()}, l.invalidChain()}, l.directorChains(), l.sourceChains(), l.wayChains(), l.natChains(),
		l.filterChains(), l.masqueradeChains())
}

func (l *Layout) sourceChains() []Chain {
	return []Chain{
		{chainSources, nil, []Rule{l.rule(
			in(setSourceVIPs, Daddr, Proto, Dport), notIn(SetSourceAllow, Daddr, Proto, Dport, Saddr), drop()),
			l.rule(in(setRangeSources, Daddr, Proto), in(setRangePorts, Daddr, Proto, Dport), notIn(setRangeAllow, Daddr, Proto, Saddr), drop())}},
		l.unusedChain(),
		{"sources-prerouting", hookSourcesIn, append(append(l.closed(), l.beforeNAT()...),
			// The director marks what it knows. This is for policy Local, and a packet still
			// has the VIP.
			l.rule(ctToEndpoint(), in(setUplinks, Iif), in(setVIPs, Daddr), setMark(l.serve())))},
		{"sources-output", hookSourcesOut, l.beforeNAT()},
	}
}

// closed resets what is not of the closed connection that the director found at the end of
// a walk. Another node had the connection of the packet, and has lost it.
func (l *Layout) closed() []Rule {
	return l.directed([]part{ctInvalid(), marked(l.serve() | l.reset())}, goTo(chainReset))
}

// directed are two rules for what is directed: by a port of its own, and in a range.
func (l *Layout) directed(which []part, then ...part) []Rule {
	port := slices.Concat(which, []part{in(setDirected, Daddr, Proto, Dport)}, then)
	ranged := slices.Concat(which, []part{in(setRangeDirected, Daddr, Proto)}, then)
	return []Rule{l.rule(port...), l.rule(ranged...)}
}

// beforeNAT are the rules that look at packets before anybody translates them.
func (l *Layout) beforeNAT() []Rule {
	return slices.Concat([]Rule{l.rule(ctInvalid(), jump(chainInvalid))}, l.directed([]part{ctNew()}, opensNothing(), drop()), []Rule{
		l.rule(ctNew(), jump(chainSources)),
		l.rule(ctNew(), in(setVIPs, Daddr), jump(chainUnused)),
	})
}

// unusedChain refuses what is sent to a port of a VIP that no Service has, before the
// rules of others for that port number can take it.
func (l *Layout) unusedChain() Chain {
	return Chain{chainUnused, nil, []Rule{
		l.rule(echoRequest(), accept()),
		l.rule(notIn(setVIPPorts, Daddr, Proto, Dport), notIn(setRangePorts, Daddr, Proto, Dport), goTo(chainRefuse)),
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

// serve and reset are the director's bits of the mark.
func (l *Layout) serve() uint32 { return MarksBeside(l.mark).Serve }
func (l *Layout) reset() uint32 { return MarksBeside(l.mark).Reset }

// directorChains do what the director marks packets for, and say when an endpoint has
// gone. Both bits of what is served here are taken off as soon as the destination is translated: they are
// in nobody's way when the kernel looks for a route.
func (l *Layout) directorChains() []Chain {
	return []Chain{
		// Others may use the bit for what is not directed.
		{"director-reset", hookReset, l.directed([]part{marked(l.reset()), notMarked(l.serve())}, goTo(chainReset))},
		{chainReset, nil, []Rule{l.rule(rejectTCP()), l.rule(drop())}},
		{"director-served", hookTranslated, []Rule{
			l.rule(marked(l.serve()), ctToEndpoint(), jump(chainGone)),
			l.rule(marked(l.serve()|l.reset()), clearMark(l.reset())),
			l.rule(marked(l.serve()), clearMark(l.serve())),
		}},
		{chainGone, nil, []Rule{
			l.rule(destinationIsOurs(), ret()), // the kernel does not see a route in that
			l.rule(routeMissing(), goTo(chainRefuse)),
			l.rule(routeBack(), goTo(chainRefuse)),
		}},
	}
}

// natChains translate. Each of them that leads to the Frontends does so once: the
// kernel's search for loops walks a map as often as there are ways to it, and before
// Linux 6.6 it does not remember where it was.
func (l *Layout) natChains() []Chain {
	vip, np, ranged := variant{}, variant{by: byNodePort}, variant{by: byRange}
	return []Chain{
		{chainServices, nil, append([]Rule{l.rule(jump(chainClassify))}, l.toFrontends(vip)...)},
		// A chain that classify goes to returns to services, for those packets that the
		// Frontends are for. external holds external-cluster as well: a packet that looks
		// while a policy changes finds its Frontend in one of them.
		{chainClassify, nil, []Rule{
			l.rule(notMarked(l.serve()), in(setExternalCluster, Daddr, Proto, Dport), goTo(chainExtCluster)),
			l.rule(in(setExternal, Daddr, Proto, Dport), goTo(chainExtLocal)),
			l.rule(in(setClusterIPs, Daddr), goTo(chainCluster)),
			l.rule(echoRequest(), in(setVIPs, Daddr), dnatAddr(mapPing, Proto)),
			// redirect drops the packet if the link that it came in from has no address.
			l.rule(echoRequest(), in(setVIPs, Daddr), redirect()),
			l.rule(in(setNodePortIPs, Daddr), goTo(chainNodePorts)),
			// After the ports that a Service has one by one: these go before its ranges.
			l.rule(in(setVIPs, Daddr), in(setRangePorts, Daddr, Proto, Dport), goTo(chainRanges)),
			l.rule(accept()),
		}},
		{chainNodePorts, nil, append(append([]Rule{l.rule(jump("np-" + chainClassify))}, l.toFrontends(np)...), l.rule(accept()))},
		{"np-" + chainClassify, nil, []Rule{
			l.rule(in(setNodePortsCluster, Proto, Dport), goTo(chainExtCluster)),
			l.rule(in(setNodePorts, Proto, Dport), goTo("np-"+chainExtLocal)),
			l.rule(accept()),
		}},
		{chainRanges, nil, append(append([]Rule{l.rule(jump("range-" + chainClassify))}, l.toFrontends(ranged)...), l.rule(accept()))},
		{"range-" + chainClassify, nil, []Rule{
			l.rule(notMarked(l.serve()), in(setRangeCluster, Daddr, Proto), goTo(chainExtCluster)),
			l.rule(goTo("range-" + chainExtLocal)),
		}},
		{chainCluster, nil, []Rule{
			l.adopted(),
			l.rule(notIn(setKeepSource, Saddr), notIn(setLocalLinks, Iif), setMark(l.mark)),
		}},
		{chainExtCluster, nil, []Rule{l.adopted(), l.rule(setMark(l.mark))}},
		l.localChain(chainExtLocal, vip),
		l.localChain("np-"+chainExtLocal, np),
		l.localChain("range-"+chainExtLocal, ranged),
		{"nat-prerouting", hookDNATIn, []Rule{l.rule(jump(chainServices))}},
		{"nat-output", hookDNATOut, []Rule{l.rule(jump(chainServices))}},
	}
}

// localChain is the way of a Frontend with policy Local. What comes from this node
// returns, for the endpoints of the cluster. Who finds nothing at the end is dropped:
// there are endpoints elsewhere only, or the policy changed from Local to Cluster
// while the packet was on its way.
//
// It is also the way of what the director serves here, from all sources. That finds
// nothing if the director knows an endpoint that the rules do not have, after somebody
// else changed them. It then takes the way of Cluster.
func (l *Layout) localChain(name string, v variant) Chain {
	rules := []Rule{
		l.adopted(),
		l.rule(notMarked(l.serve()), in(setLocalPods, Saddr), ret()),
		l.rule(notMarked(l.serve()), in(setLocalLinks, Iif), ret()),
		l.rule(notMarked(l.serve()), sourceIsOurs(), setMark(l.mark), ret()),
	}
	rules = append(rules, l.toFrontends(variant{v.by, true})...)
	return Chain{name, nil, append(rules, l.rule(marked(l.serve()), setMark(l.mark), ret()), l.rule(drop()))}
}

// selectors returns what a frontend is looked up by.
func (v variant) selectors() []Selector {
	switch v.by {
	case byNodePort:
		return []Selector{Proto, Dport}
	case byRange:
		return []Selector{Daddr, Proto}
	}
	return []Selector{Daddr, Proto, Dport}
}

// toFrontends looks the Frontend up, twice: a packet that looks while a transaction
// replaces the element sees the old generation of the map, from which the old element
// is gone already. The second look sees the new one; without it the packet would be
// refused as for an undefined port.
func (l *Layout) toFrontends(v variant) []Rule {
	look := l.rule(vmap(v.frontends(), v.selectors()...))
	return []Rule{look, look}
}

func (l *Layout) filterChains() []Chain {
	return []Chain{
		{chainRefuse, nil, []Rule{l.rule(rejectTCP()), l.rule(reject())}},
		{chainNoService, nil, []Rule{
			l.rule(vmap(mapNoEndpoints, Daddr, Proto, Dport)),
			// What is left for the address is refused in any case.
			l.rule(vmap(mapRangeNoEndpoints, Daddr, Proto)),
			l.rule(in(setClusterIPs, Daddr), goTo(chainRefuse)),
			l.rule(in(setServiceCIDRs, Daddr), drop()),
			l.rule(in(setNodePortIPs, Daddr), vmap("np-"+mapNoEndpoints, Proto, Dport)),
		}},
		{"filter-input", hookInput, []Rule{l.rule(ctNew(), jump(chainNoService))}},
		{"filter-forward", hookForward, append([]Rule{l.rule(ctNew(), jump(chainNoService)), l.unforwarded()}, l.untranslated()...)},
		{"filter-output", hookOutput, append([]Rule{l.rule(ctNew(), jump(chainNoService)), l.unforwarded()}, l.untranslated()...)},
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
func (l *Layout) untranslated() []Rule {
	return []Rule{
		l.rule(ctInvalid(), in(setHairpin, Saddr, Saddr, Proto, Sport), drop()),
		// Each port of such a pod is an endpoint's.
		l.rule(ctInvalid(), in(setRangeHairpin, Saddr, Saddr, Proto), drop()),
	}
}

func (l *Layout) masqueradeChains() []Chain {
	return []Chain{{"postrouting", hookSNAT, []Rule{
		l.rule(marked(l.mark), in(setKeepPorts, Daddr, Proto, Dport), clearMark(l.mark), masqueradeKept()),
		l.rule(marked(l.mark), in(setRangeKeep, Daddr, Proto), clearMark(l.mark), masqueradeKept()),
		l.rule(marked(l.mark), clearMark(l.mark), masquerade()),
		l.rule(ctDNAT(), in(setHairpin, Saddr, Daddr, Proto, Dport), masquerade()),
		l.rule(ctDNAT(), in(setRangeHairpin, Saddr, Daddr, Proto), masquerade()),
	}}}
}

// tryChain sends to slot i, looking twice as toFrontends does. It returns if the slot
// is empty.
func (l *Layout) tryChain(v variant, i int) Chain {
	look := l.rule(v.dnat(i))
	return Chain{Name: v.try(i), Rules: []Rule{look, look}}
}

// dnat translates the destination to the endpoint in slot i.
func (v variant) dnat(i int) part {
	if v.by == byRange {
		return dnatAddr(v.ep(i), v.selectors()...)
	}
	return dnat(v.ep(i), v.selectors()...)
}

// slotChain is tryChain for a slot that is not empty. A packet whose Frontend loses
// the slot while it is on its way goes to slot 0; and nowhere rather than on without
// NAT, because its conntrack entry would then keep every retry from being translated.
func (l *Layout) slotChain(v variant, i int) Chain {
	c := Chain{Name: v.slot(i), Rules: l.tryChain(v, i).Rules}
	if i > 0 {
		c.Rules = append(c.Rules, l.rule(v.dnat(0)))
	}
	c.Rules = append(c.Rules, l.rule(drop()))
	return c
}

// balanceChain spreads over slots. Those behind the full ones may be empty: a packet
// that twice finds one empty takes one of the full ones. So no endpoint is chosen more
// than 1.25 times as often as another, and no more than 1.06 times by the chain of
// slotCount. A packet that is in the chain while a transaction replaces its rules can
// find the map of the old ones empty; it is dropped and sent again.
func (l *Layout) balanceChain(b balance) Chain {
	slots, tries := make([]string, b.n), make([]string, b.n)
	for i := range slots {
		slots[i], tries[i] = b.slot(i), b.try(i)
	}
	if b.sticky > 0 {
		return l.stickyChain(b, slots)
	}
	if b.byClient {
		return Chain{Name: b.String(), Rules: []Rule{l.rule(hashed(slots, false)), l.rule(drop())}}
	}
	try := l.rule(spread(tries, true))
	return Chain{Name: b.String(), Rules: []Rule{try, try, l.rule(spread(slots[:full(b.n)], false)), l.rule(drop())}}
}

// clientShare is how many clients of one Frontend are remembered at once, and again
// within each timeout. So one Frontend never has more than twice as many: with a
// memory of 65,535 clients for each slot, it takes many to fill one.
const clientShare = 2048

// stickyChain is balanceChain for a Frontend with affinity. A client that is remembered
// goes to its slot. Any other is remembered if that is possible: at a random slot, or,
// while the Frontend is in the set full, at the slot that its address hashes to. A
// client that cannot be remembered has its slot by the hash as well, and keeps the
// Frontend in full for the timeout. So it never depends on what others do whether a
// client gets the same slot again.
func (l *Layout) stickyChain(b balance, slots []string) Chain {
	c := Chain{Name: b.String()}
	sticks, timeout := make([]string, b.n), time.Duration(b.sticky)*time.Second
	for i, slot := range slots {
		sticks[i] = b.stick(i, b.sticky)
		c.Rules = append(c.Rules, l.rule(in(b.affinity(i), b.client()...), update(b.affinity(i), timeout, b.client()...), goTo(slot)))
	}
	byHash := func(chains []string, jumps bool) part {
		if len(chains) == 1 { // some kernels refuse a hash modulo 1
			if jumps {
				return jump(chains[0])
			}
			return goTo(chains[0])
		}
		return hashed(chains, jumps)
	}
	c.Rules = append(c.Rules,
		l.rule(notIn(b.full(), b.selectors()...), spread(sticks, true)),
		l.rule(byHash(sticks, true)),
		l.rule(update(b.full(), timeout, b.selectors()...)),
		l.rule(byHash(slots, false)),
		l.rule(drop()))
	return c
}

// client is what affinity remembers.
func (v variant) client() []Selector { return append([]Selector{Saddr}, v.selectors()...) }

// stickChain remembers the client at slot i and sends it there. It returns if the
// client cannot be remembered, because the set or the Frontend's share is full. The
// first client beyond the share is remembered all the same: its slot was chosen at
// random, so that the hash would not find it again.
func (l *Layout) stickChain(v variant, i, seconds int) Chain {
	timeout := time.Duration(seconds) * time.Second
	remember := update(v.affinity(i), timeout, v.client()...)
	return Chain{Name: v.stick(i, seconds), Rules: []Rule{
		l.rule(updateSome(clientShare, v.share(), timeout, v.selectors()...), remember, goTo(v.slot(i))),
		l.rule(notIn(v.full(), v.selectors()...), update(v.full(), timeout, v.selectors()...), remember, goTo(v.slot(i))),
	}}
}
