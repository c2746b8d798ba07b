package nftables

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// layoutVersion names this shape of the tables in their comment. The hash that
// follows it there covers every set and rule; the number is for people.
const layoutVersion = 1

// minSlots is how many slots exist before any Frontend needs them: binding a
// map to a rule later makes the kernel walk its elements.
const minSlots = 8

// variant says which of the parallel slot maps a list of endpoints is in: node
// ports have no address in their key, local lists are those of
// externalTrafficPolicy Local.
type variant struct{ nodePort, local bool }

var variants = [4]variant{{false, false}, {false, true}, {true, false}, {true, true}}

func (v variant) index() int {
	i := 0
	if v.nodePort {
		i = 2
	}
	if v.local {
		i++
	}
	return i
}

// name makes an object's name: ep, ep-local, np-ep, np-ep-local.
func (v variant) name(base string) string {
	if v.nodePort {
		base = "np-" + base
	}
	if v.local {
		base += "-local"
	}
	return base
}

func (v variant) ep(i int) string       { return v.name("ep") + "-" + strconv.Itoa(i) }
func (v variant) slot(i int) string     { return v.name("s") + "-" + strconv.Itoa(i) }
func (v variant) affinity(i int) string { return v.name("affinity") + "-" + strconv.Itoa(i) }
func (v variant) frontends() string     { return v.name("frontends") }

// stick is the chain that remembers slot i for t seconds.
func (v variant) stick(i, t int) string {
	return v.name("a") + "-" + strconv.Itoa(i) + "-" + strconv.Itoa(t)
}

// balance is a chain that spreads over n slots, remembering the choice for
// sticky seconds if that is not 0.
type balance struct {
	variant
	n, sticky int
}

func (b balance) String() string {
	s := b.name("lb") + "-" + strconv.Itoa(b.n)
	if b.sticky > 0 {
		s += "-sticky-" + strconv.Itoa(b.sticky)
	}
	return s
}

// parseBalance is the inverse of balance.String.
func parseBalance(s string) (balance, bool) {
	var b balance
	rest, np := strings.CutPrefix(s, "np-")
	rest, ok := strings.CutPrefix(rest, "lb-")
	if !ok {
		return b, false
	}
	rest, local := strings.CutPrefix(rest, "local-")
	count, timeout, sticky := strings.Cut(rest, "-sticky-")
	b.variant = variant{np, local}
	b.n, _ = strconv.Atoi(count)
	if sticky {
		b.sticky, _ = strconv.Atoi(timeout)
	}
	return b, b.n > 0 && b.String() == s
}

// isStick and isAffinity know the names of objects that come and go with a
// timeout.
func isStick(name string) bool { return strings.HasPrefix(strings.TrimPrefix(name, "np-"), "a-") }
func isAffinity(name string) bool {
	return strings.HasPrefix(strings.TrimPrefix(name, "np-"), "affinity-")
}

func compareBalance(a, b balance) int {
	return cmp.Or(cmp.Compare(a.index(), b.index()), cmp.Compare(a.sticky, b.sticky), cmp.Compare(a.n, b.n))
}

// shape says which of the objects that come in numbers exist.
type shape struct {
	slots    [4]int // by variant
	balances map[balance]bool
}

func newShape() shape {
	return shape{slots: [4]int{minSlots, minSlots, minSlots, minSlots}, balances: map[balance]bool{}}
}

// covers tells whether b's chain and its slots exist.
func (s shape) covers(b balance) bool { return s.balances[b] && s.slots[b.index()] >= b.n }

// grow adds what b needs. Slots double, so that they seldom grow.
func (s *shape) grow(b balance) {
	s.balances[b] = true
	for s.slots[b.index()] < b.n {
		s.slots[b.index()] *= 2
	}
}

func (s shape) clone() shape {
	out := shape{slots: s.slots, balances: make(map[balance]bool, len(s.balances))}
	for b := range s.balances {
		out.balances[b] = true
	}
	return out
}

// merge adds what other has and need not be pruned: chains without affinity
// stay for the next Service with that many endpoints, chains with a timeout
// only while some Frontend has that timeout.
func (s *shape) merge(other shape) {
	timeouts := map[int]bool{0: true}
	for b := range s.balances {
		timeouts[b.sticky] = true
	}
	for i, n := range other.slots {
		s.slots[i] = max(s.slots[i], n)
	}
	for b := range other.balances {
		if timeouts[b.sticky] {
			s.grow(b)
		}
	}
}

func (s shape) sorted() []balance {
	out := make([]balance, 0, len(s.balances))
	for b := range s.balances {
		out = append(out, b)
	}
	slices.SortFunc(out, compareBalance)
	return out
}

// setSpec is a set or map.
type setSpec struct {
	name     string
	key      []field
	data     []field // of a map to addresses and ports
	verdict  bool    // a verdict map
	interval bool
	dynamic  bool // filled by rules, elements time out
}

// ranges tells whether each element is a start and an end element (rbtree)
// rather than one element with two keys (concatenations).
func (s setSpec) ranges() bool { return s.interval && len(s.key) == 1 }

func (s setSpec) isMap() bool { return s.verdict || s.data != nil }

func (s setSpec) String() string {
	var b strings.Builder
	kind := "set"
	if s.isMap() {
		kind = "map"
	}
	fmt.Fprintf(&b, "%s %s { type %s", kind, s.name, fieldNames(s.key))
	if s.verdict {
		b.WriteString(" : verdict")
	} else if s.data != nil {
		b.WriteString(" : " + fieldNames(s.data))
	}
	if s.interval {
		b.WriteString("; flags interval")
	}
	if s.dynamic {
		b.WriteString("; flags dynamic,timeout")
	}
	return b.String() + " }"
}

func fieldNames(fs []field) string {
	names := make([]string, len(fs))
	for i, f := range fs {
		names[i] = f.name
	}
	return strings.Join(names, " . ")
}

// hook is where a base chain is attached.
type hook struct {
	kind     string
	num      uint32
	priority int32
}

// chain is a chain with its rules.
type chain struct {
	name  string
	hook  *hook
	rules []rule
}

func (c chain) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "chain %s {", c.name)
	if c.hook != nil {
		fmt.Fprintf(&b, " type %s hook %d priority %d;", c.hook.kind, c.hook.num, c.hook.priority)
	}
	for _, r := range c.rules {
		b.WriteString("\n\t" + r.text)
	}
	return b.String() + "\n}"
}

// objects are the sets and chains of one table, in an order in which the
// kernel accepts them: rules are added after all sets and chains.
type objects struct {
	sets   []setSpec
	chains []chain
}

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

// comment is the table's comment: the version, and a hash over one of each
// kind of object.
func (l layout) comment() string {
	s := shape{slots: [4]int{1, 1, 1, 1}, balances: map[balance]bool{}}
	for _, v := range variants {
		s.balances[balance{v, 1, 0}] = true
		s.balances[balance{v, 1, 1}] = true
	}
	h := sha256.New()
	o := l.objects(s)
	for _, set := range o.sets {
		fmt.Fprintln(h, set)
	}
	for _, c := range o.chains {
		fmt.Fprintln(h, c)
	}
	return fmt.Sprintf("fairlead layout %d %x", layoutVersion, h.Sum(nil)[:8])
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
	return slices.Concat(l.sourceChains(), l.natChains(), l.externalChains(variant{}),
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
			l.rule(in(setClusterIPs, daddr), goTo(chainCluster)),
			l.rule(in(setNodePortIPs, daddr), vmap("np-"+mapExternal, proto, dport)),
			l.rule(in(setVIPs, daddr), echoRequest(), redirect()),
		}},
		{chainCluster, nil, []rule{
			l.rule(notIn(setKeepSource, saddr), setMark(l.mark)),
			l.rule(vmap(variant{}.frontends(), daddr, proto, dport)),
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

func (l layout) externalChains(v variant) []chain {
	extCluster, extLocal := chainExtCluster, chainExtLocal
	if v.nodePort {
		extCluster, extLocal = "np-"+extCluster, "np-"+extLocal
	}
	return []chain{
		{extCluster, nil, []rule{
			l.rule(setMark(l.mark)),
			l.rule(vmap(v.frontends(), v.selectors()...)),
		}},
		{extLocal, nil, []rule{
			l.rule(in(setLocalPods, saddr), vmap(v.frontends(), v.selectors()...)),
			l.rule(sourceIsOurs(), goTo(extCluster)),
			l.rule(vmap(variant{v.nodePort, true}.frontends(), v.selectors()...)),
		}},
	}
}

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
		{"filter-forward", hookForward, []rule{l.rule(ctNew(), jump(chainNoService))}},
		{"filter-output", hookOutput, []rule{l.rule(ctNew(), jump(chainNoService))}},
	}
}

func (l layout) masqueradeChains() []chain {
	return []chain{{"postrouting", hookSNAT, []rule{
		l.rule(marked(l.mark), clearMark(l.mark), masquerade()),
		l.rule(ctDNAT(), in(setHairpin, saddr, daddr, proto, dport), masquerade()),
	}}}
}

// slotChain sends to slot i. A packet whose Frontend loses that slot while it
// is on its way goes to slot 0; and nowhere rather than on without NAT, because
// its conntrack entry would then keep every retry from being translated.
func (l layout) slotChain(v variant, i int) chain {
	c := chain{name: v.slot(i), rules: []rule{l.rule(dnat(v.ep(i), v.selectors()...))}}
	if i > 0 {
		c.rules = append(c.rules, l.rule(dnat(v.ep(0), v.selectors()...)))
	}
	c.rules = append(c.rules, l.rule(drop()))
	return c
}

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
	c.rules = append(c.rules, l.rule(spread(targets)))
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
