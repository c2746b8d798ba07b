package nftables

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// commentLocal marks a Frontend with policy Local that takes the way of Cluster: it
// cannot be told from the bytes alone.
const commentLocal = "local"

// by is what p is looked up by.
func (p *Slots) by() by {
	switch {
	case p.Kind == proxy.NodePort:
		return byNodePort
	case p.Ranged():
		return byRange
	}
	return byPort
}

// key is the bytes by which p is looked up.
func (p *Slots) key() string {
	b := make([]byte, 0, 24)
	if p.Kind != proxy.NodePort {
		b = addrKey(b, p.Addr)
	}
	if b = protoKey(b, p.Protocol); p.Ranged() {
		return string(b)
	}
	return string(portKey(b, p.Port))
}

// elements appends p's elements.
func (p *Slots) elements(out []Element) []Element {
	key := p.key()
	out = p.facts(out, key)
	for _, local := range []bool{false, true} {
		for i, ep := range p.slots(local).at {
			out = append(out, slotElement(variant{p.by(), local}, i, key, ep))
		}
	}
	return out
}

// facts appends p's elements but for those of its slots.
func (p *Slots) facts(out []Element, key string) []Element {
	if p.Ranged() {
		return p.rangeFacts(out, key)
	}
	if p.Kind == proxy.VIP || p.Kind == proxy.Guard {
		out = append(out, Element{Set: setVIPPorts, Key: key})
	}
	// Another proxy forwards: only the other ports of the VIP are refused.
	if p.Kind == proxy.Guard {
		return out
	}
	if p.Kind != proxy.ClusterIP {
		out = p.way(out, key)
	}
	if p.Directed {
		out = append(out, Element{Set: setDirected, Key: key})
	}
	out = p.verdicts(out, key)
	if p.Kind == proxy.VIP || p.Kind == proxy.ExternalIP {
		out = p.sources(out, key, setSourceVIPs, SetSourceAllow)
	}
	return out
}

// rangeFacts is facts for a Frontend with ranges of ports.
func (p *Slots) rangeFacts(out []Element, key string) []Element {
	for _, r := range p.Ranges {
		out = append(out, Element{Set: setRangePorts, Key: string(portKey([]byte(key), r.First)), End: string(portKey([]byte(key), r.Last))})
	}
	if p.Directed {
		out = append(out, Element{Set: setRangeDirected, Key: key})
	}
	switch {
	case !p.LocalOnly:
		out = append(out, Element{Set: setRangeCluster, Key: key})
	case p.Empty == proxy.Reject:
		out = append(out, Element{Set: setRangeCluster, Key: key, Comment: commentLocal})
	}
	return p.sources(p.verdicts(out, key), key, setRangeSources, setRangeAllow)
}

// verdicts appends where packets go: to slots, or nowhere.
func (p *Slots) verdicts(out []Element, key string) []Element {
	if p.Empty != proxy.Forward {
		verdict := "drop"
		if p.Empty == proxy.Reject {
			verdict = "goto " + chainRefuse
		}
		out = append(out, Element{Set: p.by().prefix() + mapNoEndpoints, Key: key, Data: verdict})
	}
	for _, b := range p.balances() {
		out = append(out, Element{Set: b.frontends(), Key: key, Data: "goto " + b.String()})
	}
	return out
}

// sources appends who may connect, to the set of those that are limited and to that of
// those that are let in.
func (p *Slots) sources(out []Element, key, limited, allowed string) []Element {
	if p.Sources == nil {
		return out
	}
	// Also without any range that could be read: then nobody is let in.
	out = append(out, Element{Set: limited, Key: key})
	for _, r := range ranges(p.Sources, p.Family) {
		out = append(out, Element{Set: allowed, Key: key + bytesOf(r.From()), End: key + bytesOf(r.To())})
	}
	return out
}

// way appends the elements that say which of the two ways from outside p takes. With
// policy Local and no endpoint at all it is that of Cluster, which ends in a refusal.
func (p *Slots) way(out []Element, key string) []Element {
	all, cluster := setExternal, setExternalCluster
	if p.Kind == proxy.NodePort {
		all, cluster = setNodePorts, setNodePortsCluster
	}
	out = append(out, Element{Set: all, Key: key})
	switch {
	case !p.LocalOnly:
		out = append(out, Element{Set: cluster, Key: key})
	case p.Empty == proxy.Reject:
		out = append(out, Element{Set: cluster, Key: key, Comment: commentLocal})
	}
	return out
}

func slotElement(v variant, i int, key string, ep netip.AddrPort) Element {
	b := addrKey(make([]byte, 0, 20), ep.Addr())
	if v.by != byRange {
		b = portKey(b, ep.Port())
	}
	return Element{Set: v.ep(i), Key: key, Data: string(b)}
}

// ranges merges the prefixes of one family: the kernel refuses overlaps.
func ranges(prefixes []netip.Prefix, id snapshot.Family) []netipx.IPRange {
	var b netipx.IPSetBuilder
	for _, p := range prefixes {
		if snapshot.FamilyOf(p.Addr()) == id {
			b.AddPrefix(p.Masked())
		}
	}
	set, err := b.IPSet()
	if err != nil {
		return nil // only invalid prefixes, which hold no address
	}
	return set.Ranges()
}

// frontendAddrs appends the addresses that Frontends have, by kind.
func (f *Family) frontendAddrs(out []Element, t *proxy.Table) []Element {
	for _, a := range t.Addrs(proxy.ClusterIP, f.ID) {
		out = append(out, Element{Set: setClusterIPs, Key: bytesOf(a)})
	}
	for _, kind := range []proxy.Kind{proxy.VIP, proxy.Guard} {
		for _, a := range t.Addrs(kind, f.ID) {
			out = append(out, Element{Set: setVIPs, Key: bytesOf(a)})
		}
	}
	for _, a := range t.Addrs(proxy.ExternalIP, f.ID) {
		out = append(out, Element{Set: setExternalIPs, Key: bytesOf(a)})
	}
	return out
}

// addrOfFrontend appends what frontendAddrs does for the address of one Frontend,
// if t has any Frontend with it.
func (f *Family) addrOfFrontend(out []Element, t *proxy.Table, key proxy.Key) []Element {
	set, ok := map[proxy.Kind]string{proxy.ClusterIP: setClusterIPs, proxy.VIP: setVIPs, proxy.Guard: setVIPs, proxy.ExternalIP: setExternalIPs}[key.Kind]
	if !ok || !t.HasAddr(key.Kind, key.Addr) {
		return out
	}
	return append(out, Element{Set: set, Key: bytesOf(key.Addr)})
}

// nodeElements appends what belongs to the node and to no Frontend, but for its pods.
func (f *Family) nodeElements(out []Element, t *proxy.Table) []Element {
	if i := slices.IndexFunc(t.NodePortAddrs, f.has); i >= 0 {
		// A redirect drops a ping that came in by a link without an address, as Calico's cali* are.
		out = append(out, Element{Set: mapPing, Key: string(f.icmp), Data: bytesOf(t.NodePortAddrs[i])})
	}
	for _, a := range t.NodePortAddrs {
		if f.has(a) {
			out = append(out, Element{Set: setNodePortIPs, Key: bytesOf(a)})
		}
	}
	out = f.rangeElements(out, setServiceCIDRs, t.ServiceCIDRs)
	for _, name := range t.LocalLinks {
		out = append(out, linkElement(name))
	}
	for _, name := range t.Uplinks {
		out = append(out, Element{Set: setUplinks, Key: linkElement(name).Key})
	}
	for _, w := range t.Ways {
		out = append(out, Element{Set: mapWays, Key: linkElement(w.Link).Key, Data: "goto " + way(w.Number)})
		if w.VRF != "" { // a packet comes in by both: the kernel looks at it again for the VRF
			out = append(out, Element{Set: setVRFs, Key: linkElement(w.Link).Key, Comment: w.VRF}, Element{Set: setVRFs, Key: linkElement(w.VRF).Key})
		}
	}
	if len(t.LocalLinks) == 0 && !slices.ContainsFunc(t.LocalPods, func(p netip.Prefix) bool { return f.has(p.Addr()) }) {
		// No local pod is known: nothing is masqueraded.
		all := netip.PrefixFrom(f.addrOf(string(make([]byte, f.AddrLen))), 0)
		out = append(out, prefixElement(setKeepSource, all))
	}
	return out
}

// podElements appends sources of local pods.
func (f *Family) podElements(out []Element, pods []netip.Prefix) []Element {
	for _, p := range pods {
		if f.has(p.Addr()) {
			out = append(out, prefixElement(setLocalPods, p), prefixElement(setKeepSource, p))
		}
	}
	return out
}

// prefixElement is one prefix as it is. Neighbours are not merged: a packet that is
// under way while a range grows by one address would find none of the range's others.
func prefixElement(set string, p netip.Prefix) Element {
	r := netipx.RangeOfPrefix(p)
	return Element{Set: set, Key: bytesOf(r.From()), End: bytesOf(r.To())}
}

// linkElement is a link's name, filled up with zeros, or a range of all names that
// begin alike.
func linkElement(name string) Element {
	prefix, any := strings.CutSuffix(name, "*")
	fill := func(with string) string { return prefix + strings.Repeat(with, FieldLink.Len-len(prefix)) }
	e := Element{Set: setLocalLinks, Key: fill("\x00")}
	if e.End = e.Key; any {
		e.End = fill("\xff")
	}
	return e
}

// hairpinElements appends endpoints that may connect to themselves.
func (f *Family) hairpinElements(out []Element, targets []proxy.Target) []Element {
	for _, h := range targets {
		if f.has(h.Addr.Addr()) {
			b := protoKey(addrKey(addrKey(nil, h.Addr.Addr()), h.Addr.Addr()), h.Protocol)
			if h.Addr.Port() == 0 {
				out = append(out, Element{Set: setRangeHairpin, Key: string(b)})
			} else {
				out = append(out, Element{Set: setHairpin, Key: string(portKey(b, h.Addr.Port()))})
			}
		}
	}
	return out
}

// keepElements appends endpoints to which source ports are kept.
func (f *Family) keepElements(out []Element, targets []proxy.Target) []Element {
	for _, k := range targets {
		if f.has(k.Addr.Addr()) {
			b := protoKey(addrKey(nil, k.Addr.Addr()), k.Protocol)
			if k.Addr.Port() == 0 {
				out = append(out, Element{Set: setRangeKeep, Key: string(b)})
			} else {
				out = append(out, Element{Set: setKeepPorts, Key: string(portKey(b, k.Addr.Port()))})
			}
		}
	}
	return out
}

func (f *Family) rangeElements(out []Element, set string, prefixes []netip.Prefix) []Element {
	for _, r := range ranges(prefixes, f.ID) {
		out = append(out, Element{Set: set, Key: bytesOf(r.From()), End: bytesOf(r.To())})
	}
	return out
}

// Elements returns all elements of one family's table, sorted by set, key and end.
func (r *Ruleset) Elements(f *Family) []Element {
	n := 0
	for p := range r.slots.All() {
		if n += 2 + len(p.cluster.at) + len(p.local.at); p.Kind != proxy.ClusterIP {
			n += 3 // the sets of external Frontends
		}
	}
	// In its size: lists that grew copied all of 50,000 Services several times (BenchmarkAdopt, 593 MB
	// of garbage before and 261 after).
	out := make([]Element, 0, n)
	for p := range r.slots.All() {
		if p.Family == f.ID {
			out = p.elements(out)
		}
	}
	out = f.podElements(f.nodeElements(f.frontendAddrs(out, r.Table), r.Table), r.Table.LocalPods)
	out = f.keepElements(f.hairpinElements(out, r.Table.Hairpin), r.Table.KeepPorts)
	return slices.Compact(SortElements(out))
}

// SortElements returns elems sorted by set, key and end, as a new list. The elements
// of one set are sorted by themselves: that compares no names, and they often are in
// order already.
func SortElements(elems []Element) []Element {
	next := map[string]int{} // where the next element of a set goes
	for _, e := range elems {
		next[e.Set]++
	}
	at := 0
	names := slices.Sorted(maps.Keys(next))
	for _, name := range names {
		at, next[name] = at+next[name], at
	}
	out := make([]Element, len(elems))
	for _, e := range elems {
		out[next[e.Set]] = e
		next[e.Set]++
	}
	at = 0
	for _, name := range names {
		set := out[at:next[name]]
		at = next[name]
		if !slices.IsSortedFunc(set, byKey) {
			slices.SortFunc(set, byKey)
		}
	}
	return out
}

func byKey(a, b Element) int {
	return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.End, b.End))
}
