package nftables

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// element is one element of a named set or map of one family. key, end and
// data hold the bytes that the kernel holds; end is the last key of a range
// and equals key, or is empty, where there is none. data is the verdict as nft
// prints it ("goto lb-2") if the map is a verdict map.
type element struct {
	set, key, end, data, comment string
}

func (e element) compare(o element) int {
	return cmp.Or(strings.Compare(e.set, o.set), strings.Compare(e.key, o.key), strings.Compare(e.end, o.end))
}

// commentExternalIP marks a Frontend of kind ExternalIP, commentLocal one with
// policy Local that takes the way of Cluster, and commentCopy a slot that holds a
// copy: none can be told from the bytes alone.
const (
	commentExternalIP = "external-ip"
	commentLocal      = "local"
	commentCopy       = "copy"
)

// placed is a Frontend with the slots of its endpoints.
type placed struct {
	*proxy.Frontend
	cluster, local []slot
}

// place assigns f's endpoints to slots; prev, which may be nil, says where they are now.
func place(prev *placed, f *proxy.Frontend) *placed {
	p := &placed{Frontend: f}
	if prev == nil {
		prev = p
	}
	p.cluster = assign(prev.cluster, f.Cluster, f.Affinity > 0)
	if f.LocalOnly {
		p.local = assign(prev.local, f.Local, f.Affinity > 0)
	}
	return p
}

// seconds is an affinity as a rule has it: whole seconds, at least one.
func seconds(d time.Duration) int {
	if d <= 0 {
		return 0
	}
	return max(1, int(d/time.Second))
}

// balances are the chains that p's elements go to.
func (p *placed) balances() []balance {
	var out []balance
	np, sticky := p.Kind == proxy.NodePort, seconds(p.Affinity)
	if len(p.cluster) > 0 {
		out = append(out, balance{variant{np, false}, len(p.cluster), sticky})
	}
	if len(p.local) > 0 {
		out = append(out, balance{variant{np, true}, len(p.local), sticky})
	}
	return out
}

// key is the bytes by which p is looked up.
func (p *placed) key() string {
	b := make([]byte, 0, 24)
	if p.Kind != proxy.NodePort {
		b = addrKey(b, p.Addr)
	}
	return string(portKey(protoKey(b, p.Protocol), p.Port))
}

// elements appends p's elements.
func (p *placed) elements(out []element) []element {
	np, key, prefix := p.Kind == proxy.NodePort, p.key(), ""
	if np {
		prefix = "np-"
	}
	if p.Kind != proxy.ClusterIP {
		out = append(out, p.way(prefix, key))
	}
	if p.Empty != proxy.Forward {
		verdict := "drop"
		if p.Empty == proxy.Reject {
			verdict = "goto " + chainRefuse
		}
		out = append(out, element{set: prefix + mapNoEndpoints, key: key, data: verdict})
	}
	for _, b := range p.balances() {
		out = append(out, element{set: b.frontends(), key: key, data: "goto " + b.String()})
	}
	out = slotElements(out, variant{np, false}, key, p.cluster)
	out = slotElements(out, variant{np, true}, key, p.local)
	if (p.Kind == proxy.VIP || p.Kind == proxy.ExternalIP) && p.Sources != nil {
		out = append(out, element{set: setSourceVIPs, key: key})
		for _, r := range ranges(p.Sources, p.Family) {
			out = append(out, element{set: setSourceAllow, key: key + bytesOf(r.From()), end: key + bytesOf(r.To())})
		}
	}
	return out
}

// way is the element that says which of the two ways from outside p takes. With
// policy Local and no endpoint at all it is that of Cluster, which ends in a
// refusal.
func (p *placed) way(prefix, key string) element {
	e := element{set: prefix + mapExternal, key: key, data: "goto " + prefix + chainExtCluster}
	var comment []string
	if p.Kind == proxy.ExternalIP {
		comment = append(comment, commentExternalIP)
	}
	switch {
	case p.LocalOnly && p.Empty == proxy.Reject:
		comment = append(comment, commentLocal)
	case p.LocalOnly:
		e.data = "goto " + prefix + chainExtLocal
	}
	e.comment = strings.Join(comment, " ")
	return e
}

func slotElements(out []element, v variant, key string, slots []slot) []element {
	for i, s := range slots {
		b := make([]byte, 0, 20)
		e := element{set: v.ep(i), key: key, data: string(portKey(addrKey(b, s.ep.Addr()), s.ep.Port()))}
		if s.copy {
			e.comment = commentCopy
		}
		out = append(out, e)
	}
	return out
}

func bytesOf(a netip.Addr) string { return string(a.Unmap().AsSlice()) }

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

// frontendAddrs appends the addresses whose undefined ports are refused.
func (f *family) frontendAddrs(out []element, t *proxy.Table) []element {
	for _, a := range t.Addrs(proxy.ClusterIP, f.id) {
		out = append(out, element{set: setClusterIPs, key: bytesOf(a)})
	}
	for _, a := range t.Addrs(proxy.VIP, f.id) {
		out = append(out, element{set: setVIPs, key: bytesOf(a)})
	}
	return out
}

// addrOfFrontend appends what frontendAddrs does for the address of one Frontend,
// if t has any Frontend with it.
func (f *family) addrOfFrontend(out []element, t *proxy.Table, key proxy.Key) []element {
	set, ok := map[proxy.Kind]string{proxy.ClusterIP: setClusterIPs, proxy.VIP: setVIPs}[key.Kind]
	if !ok || !t.HasAddr(key.Kind, key.Addr) {
		return out
	}
	return append(out, element{set: set, key: bytesOf(key.Addr)})
}

// nodeElements appends what belongs to the node and to no Frontend.
func (f *family) nodeElements(out []element, t *proxy.Table) []element {
	for _, a := range t.NodePortAddrs {
		if f.has(a) {
			out = append(out, element{set: setNodePortIPs, key: bytesOf(a)})
		}
	}
	out = f.rangeElements(out, setServiceCIDRs, t.ServiceCIDRs)
	out = f.rangeElements(out, setLocalPods, t.LocalPods)
	for _, name := range t.LocalLinks {
		out = append(out, linkElement(name))
	}
	keep := ranges(t.LocalPods, f.id)
	if len(keep) == 0 && len(t.LocalLinks) == 0 { // no local pod is known: nothing is masqueraded
		all := netip.PrefixFrom(f.addrOf(string(make([]byte, f.addrLen))), 0)
		keep = []netipx.IPRange{netipx.RangeOfPrefix(all)}
	}
	for _, r := range keep {
		out = append(out, element{set: setKeepSource, key: bytesOf(r.From()), end: bytesOf(r.To())})
	}
	return out
}

// linkElement is a link's name, filled up with zeros, or a range of all names that
// begin alike.
func linkElement(name string) element {
	prefix, any := strings.CutSuffix(name, "*")
	fill := func(with string) string { return prefix + strings.Repeat(with, fieldLink.len-len(prefix)) }
	e := element{set: setLocalLinks, key: fill("\x00")}
	if e.end = e.key; any {
		e.end = fill("\xff")
	}
	return e
}

// linkName is the inverse of linkElement.
func (e element) linkName() string {
	name := strings.TrimRight(e.key, "\x00")
	if e.end != e.key {
		name += "*"
	}
	return name
}

// hairpinElements appends endpoints that may connect to themselves.
func (f *family) hairpinElements(out []element, targets []proxy.Target) []element {
	for _, h := range targets {
		if f.has(h.Addr.Addr()) {
			b := addrKey(addrKey(nil, h.Addr.Addr()), h.Addr.Addr())
			out = append(out, element{set: setHairpin, key: string(portKey(protoKey(b, h.Protocol), h.Addr.Port()))})
		}
	}
	return out
}

func (f *family) rangeElements(out []element, set string, prefixes []netip.Prefix) []element {
	for _, r := range ranges(prefixes, f.id) {
		out = append(out, element{set: set, key: bytesOf(r.From()), end: bytesOf(r.To())})
	}
	return out
}

// render is all elements of one family, sorted.
func (f *family) render(t *proxy.Table, fronts []*placed) []element {
	out := make([]element, 0, 4*len(fronts))
	for _, p := range fronts {
		if p.Family == f.id {
			out = p.elements(out)
		}
	}
	out = f.nodeElements(f.frontendAddrs(out, t), t)
	return slices.Compact(sortElements(f.hairpinElements(out, t.Hairpin)))
}

// sortElements sorts by set, key and end. The elements of one set are sorted
// by themselves: that compares no names, and they often are in order already.
func sortElements(elems []element) []element {
	next := map[string]int{} // where the next element of a set goes
	for _, e := range elems {
		next[e.set]++
	}
	at := 0
	names := slices.Sorted(maps.Keys(next))
	for _, name := range names {
		at, next[name] = at+next[name], at
	}
	out := make([]element, len(elems))
	for _, e := range elems {
		out[next[e.set]] = e
		next[e.set]++
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

func byKey(a, b element) int {
	return cmp.Or(strings.Compare(a.key, b.key), strings.Compare(a.end, b.end))
}

// text prints an element as nft would.
func (e element) text(s setSpec) string {
	text := fieldsText(s.key, e.key)
	if e.end != "" && e.end != e.key {
		text += "-" + fieldsText(s.key, e.end)
	}
	if e.comment != "" {
		text += fmt.Sprintf(" comment %q", e.comment)
	}
	switch {
	case s.verdict:
		text += " : " + e.data
	case s.data != nil:
		text += " : " + fieldsText(s.data, e.data)
	}
	return text
}

func fieldsText(fields []field, s string) string {
	parts := make([]string, 0, len(fields))
	for _, f := range fields {
		if len(s) < f.len {
			return "?"
		}
		switch f {
		case fieldProto:
			parts = append(parts, snapshot.Protocol(s[0]).String())
		case fieldLink:
			parts = append(parts, strings.TrimRight(s[:f.len], "\x00"))
		case fieldService:
			parts = append(parts, fmt.Sprint(binary.BigEndian.Uint16([]byte(s))))
		default:
			a, _ := netip.AddrFromSlice([]byte(s[:f.len]))
			parts = append(parts, a.String())
		}
		s = s[min(len(s), f.padded()):]
	}
	return strings.Join(parts, " . ")
}
