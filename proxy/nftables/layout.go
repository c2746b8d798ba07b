package nftables

import (
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// layoutVersion numbers the static part: the sets, maps, chains and rules, but
// not what the sets and maps hold. Whoever changes that part raises it. A table
// tells its version by the name of an empty chain, "layout-2", because the
// kernel never changes the comment of a table that exists.
const layoutVersion = 2

// tableComment tells our tables from other tables of our name.
const tableComment = "fairlead: Services of Kubernetes"

// versionChain is the name of the chain that says which layout a table has.
func versionChain() string { return "layout-" + strconv.Itoa(layoutVersion) }

// layout makes every object of a table.
type layout struct {
	*family
	mark uint32 // one bit
}

// objects returns the objects of a table with this shape.
func (l layout) objects(s shape) objects {
	o := objects{sets: l.fixedSets(), chains: l.fixedChains()}
	for _, v := range variants {
		for i := range s.slots[v.index()] {
			o.sets = append(o.sets, l.epMap(v, i))
			o.chains = append(o.chains, l.slotChain(v, i))
		}
	}
	affinities := map[variant]int{}
	sticks := map[balance]int{}
	for _, b := range s.sorted() {
		o.chains = append(o.chains, l.balanceChain(b))
		if b.sticky == 0 {
			continue
		}
		for ; affinities[b.variant] < b.n; affinities[b.variant]++ {
			o.sets = append(o.sets, l.affinitySet(b.variant, affinities[b.variant]))
		}
		per := balance{variant: b.variant, sticky: b.sticky}
		for ; sticks[per] < b.n; sticks[per]++ {
			o.chains = append(o.chains, l.stickChain(b.variant, sticks[per], b.sticky))
		}
	}
	return o
}

func (l layout) frontendKey(v variant) []field {
	if v.nodePort {
		return []field{fieldProto, fieldService}
	}
	return []field{l.addr, fieldProto, fieldService}
}

func (l layout) epMap(v variant, i int) setSpec {
	return setSpec{name: v.ep(i), key: l.frontendKey(v), data: []field{l.addr, fieldService}}
}

func (l layout) affinitySet(v variant, i int) setSpec {
	return setSpec{name: v.affinity(i), key: append([]field{l.addr}, l.frontendKey(v)...), dynamic: true}
}

func (l layout) fixedSets() []setSpec {
	addr := []field{l.addr}
	vip, np := l.frontendKey(variant{}), l.frontendKey(variant{nodePort: true})
	sets := []setSpec{
		{name: setClusterIPs, key: addr},
		{name: setVIPs, key: addr},
		{name: setNodePortIPs, key: addr},
		{name: setServiceCIDRs, key: addr, interval: true},
		{name: setLocalPods, key: addr, interval: true},
		{name: setKeepSource, key: addr, interval: true},
		{name: setLocalLinks, key: []field{fieldLink}, interval: true},
		{name: setHairpin, key: []field{l.addr, l.addr, fieldProto, fieldService}},
		{name: setSourceVIPs, key: vip},
		{name: setSourceAllow, key: append(slices.Clone(vip), l.addr), interval: true},
		{name: mapExternal, key: vip, verdict: true},
		{name: mapNoEndpoints, key: vip, verdict: true},
		{name: "np-" + mapExternal, key: np, verdict: true},
		{name: "np-" + mapNoEndpoints, key: np, verdict: true},
	}
	for _, v := range variants {
		sets = append(sets, setSpec{name: v.frontends(), key: l.frontendKey(v), verdict: true})
	}
	return sets
}

// The names of the sets, maps and chains that exist once.
const (
	setClusterIPs   = "cluster-ips"
	setVIPs         = "vips"
	setNodePortIPs  = "nodeport-ips"
	setServiceCIDRs = "service-cidrs"
	setLocalPods    = "local-pods"
	setKeepSource   = "keep-source"
	setLocalLinks   = "local-links"
	setHairpin      = "hairpin"
	setSourceVIPs   = "lbsr-vips"
	setSourceAllow  = "lbsr-allow"
	mapExternal     = "external"
	mapNoEndpoints  = "no-endpoints"

	chainCluster    = "cluster"
	chainExtCluster = "ext-cluster"
	chainExtLocal   = "ext-local"
	chainRefuse     = "refuse"
	chainServices   = "services"
	chainNoService  = "no-service"
	chainSources    = "source-ranges"
)

var (
	hookSourcesIn  = &hook{"filter", unix.NF_INET_PRE_ROUTING, -110}
	hookSourcesOut = &hook{"filter", unix.NF_INET_LOCAL_OUT, -110}
	hookDNATIn     = &hook{"nat", unix.NF_INET_PRE_ROUTING, -100}
	hookDNATOut    = &hook{"nat", unix.NF_INET_LOCAL_OUT, -100}
	hookInput      = &hook{"filter", unix.NF_INET_LOCAL_IN, 0}
	hookForward    = &hook{"filter", unix.NF_INET_FORWARD, 0}
	hookOutput     = &hook{"filter", unix.NF_INET_LOCAL_OUT, 0}
	hookSNAT       = &hook{"nat", unix.NF_INET_POST_ROUTING, 100}
)

func (l layout) fixedChains() []chain {
	return slices.Concat([]chain{{name: versionChain()}}, l.sourceChains(), l.natChains(), l.externalChains(variant{}),
		l.externalChains(variant{nodePort: true}), l.filterChains(), l.masqueradeChains())
}

func (l layout) sourceChains() []chain {
	return []chain{
		{chainSources, nil, []rule{l.rule(
			in(setSourceVIPs, daddr, proto, dport), notIn(setSourceAllow, daddr, proto, dport, saddr), drop())}},
		{"sources-prerouting", hookSourcesIn, []rule{l.rule(ctNew(), jump(chainSources))}},
		{"sources-output", hookSourcesOut, []rule{l.rule(ctNew(), jump(chainSources))}},
	}
}

func (l layout) natChains() []chain {
	return []chain{
		{chainServices, nil, []rule{
			l.rule(vmap(mapExternal, daddr, proto, dport)),
			l.rule(vmap(mapExternal, daddr, proto, dport)),
			l.rule(in(setClusterIPs, daddr), goTo(chainCluster)),
			l.rule(in(setNodePortIPs, daddr), vmap("np-"+mapExternal, proto, dport)),
			l.rule(in(setNodePortIPs, daddr), vmap("np-"+mapExternal, proto, dport)),
			l.rule(in(setVIPs, daddr), echoRequest(), redirect()),
		}},
		{chainCluster, nil, []rule{
			l.rule(notIn(setKeepSource, saddr), notIn(setLocalLinks, iif), setMark(l.mark)),
			l.toFrontends(variant{}), l.toFrontends(variant{}),
		}},
		{"prerouting", hookDNATIn, []rule{l.rule(jump(chainServices))}},
		{"output", hookDNATOut, []rule{l.rule(jump(chainServices))}},
	}
}

// selectors returns what a frontend is looked up by.
func (v variant) selectors() []selector {
	if v.nodePort {
		return []selector{proto, dport}
	}
	return []selector{daddr, proto, dport}
}

// externalChains are the two ways to a Frontend from outside. Who finds nothing
// at the end of ext-local is dropped: there are endpoints elsewhere only, or the
// policy changed from Local to Cluster while the packet was on its way.
func (l layout) externalChains(v variant) []chain {
	extCluster, extLocal := chainExtCluster, chainExtLocal
	if v.nodePort {
		extCluster, extLocal = "np-"+extCluster, "np-"+extLocal
	}
	return []chain{
		{extCluster, nil, []rule{
			l.rule(setMark(l.mark)),
			l.toFrontends(v), l.toFrontends(v),
		}},
		{extLocal, nil, []rule{
			l.rule(in(setLocalPods, saddr), vmap(v.frontends(), v.selectors()...)),
			l.rule(in(setLocalPods, saddr), vmap(v.frontends(), v.selectors()...)),
			l.rule(in(setLocalLinks, iif), vmap(v.frontends(), v.selectors()...)),
			l.rule(in(setLocalLinks, iif), vmap(v.frontends(), v.selectors()...)),
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
func (l layout) toFrontends(v variant) rule { return l.rule(vmap(v.frontends(), v.selectors()...)) }

func (l layout) filterChains() []chain {
	return []chain{
		{chainRefuse, nil, []rule{l.rule(rejectTCP()), l.rule(reject())}},
		{chainNoService, nil, []rule{
			l.rule(vmap(mapNoEndpoints, daddr, proto, dport)),
			l.rule(in(setClusterIPs, daddr), goTo(chainRefuse)),
			l.rule(in(setVIPs, daddr), goTo(chainRefuse)),
			l.rule(in(setServiceCIDRs, daddr), drop()),
			l.rule(in(setNodePortIPs, daddr), vmap("np-"+mapNoEndpoints, proto, dport)),
		}},
		{"filter-input", hookInput, []rule{l.rule(ctNew(), jump(chainNoService))}},
		{"filter-forward", hookForward, []rule{l.rule(ctNew(), jump(chainNoService)), l.untranslated()}},
		{"filter-output", hookOutput, []rule{l.rule(ctNew(), jump(chainNoService)), l.untranslated()}},
	}
}

// untranslated drops what an endpoint of this node sends outside of its
// connection's window: connection tracking does not translate it back, and a
// client that sees the endpoint's own address answers with a reset.
func (l layout) untranslated() rule {
	return l.rule(ctInvalid(), in(setHairpin, saddr, saddr, proto, sport), drop())
}

func (l layout) masqueradeChains() []chain {
	return []chain{{"postrouting", hookSNAT, []rule{
		l.rule(marked(l.mark), clearMark(l.mark), masquerade()),
		l.rule(ctDNAT(), in(setHairpin, saddr, daddr, proto, dport), masquerade()),
	}}}
}

// slotChain sends to slot i, looking twice as toFrontends does. A packet whose
// Frontend loses that slot while it is on its way goes to slot 0; and nowhere
// rather than on without NAT, because its conntrack entry would then keep every
// retry from being translated.
func (l layout) slotChain(v variant, i int) chain {
	own, first := l.rule(dnat(v.ep(i), v.selectors()...)), l.rule(dnat(v.ep(0), v.selectors()...))
	c := chain{name: v.slot(i), rules: []rule{own, own}}
	if i > 0 {
		c.rules = append(c.rules, first)
	}
	c.rules = append(c.rules, l.rule(drop()))
	return c
}

// balanceChain spreads over slots. A packet that is in it while a transaction
// replaces its rules can find the map of the old ones empty; it is dropped and
// sent again.
func (l layout) balanceChain(b balance) chain {
	c := chain{name: b.String()}
	targets := make([]string, b.n)
	for i := range targets {
		targets[i] = b.slot(i)
		if b.sticky > 0 {
			targets[i] = b.stick(i, b.sticky)
			c.rules = append(c.rules, l.rule(in(b.affinity(i), b.client()...), goTo(targets[i])))
		}
	}
	c.rules = append(c.rules, l.rule(spread(targets)), l.rule(drop()))
	return c
}

// client is what affinity remembers.
func (v variant) client() []selector { return append([]selector{saddr}, v.selectors()...) }

// stickChain remembers and forwards in two rules: a full set fails only the first.
func (l layout) stickChain(v variant, i, seconds int) chain {
	return chain{name: v.stick(i, seconds), rules: []rule{
		l.rule(update(v.affinity(i), time.Duration(seconds)*time.Second, v.client()...)),
		l.rule(goTo(v.slot(i))),
	}}
}
