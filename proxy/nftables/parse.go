package nftables

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// Parse returns the Table, with Slots but without Layouts, that the kernel's tables
// stand for. It is the inverse of Ruleset.Elements.
func Parse(kernel []*Kernel) *Ruleset {
	r := &Ruleset{}
	var tables []*proxy.Table
	for _, k := range kernel {
		t, slots := k.Family.parse(k.sound())
		tables = append(tables, t)
		r.slots = append(r.slots, slots...)
	}
	r.Table = joinTables(tables...)
	sortSlots(r.slots)
	return r
}

// parse returns the Table that elements of one family stand for, and its Frontends
// with their Slots. It ignores an element that no Ruleset has; a comparison of
// elements finds those.
func (f *Family) parse(elems []Element) (*proxy.Table, []*Slots) {
	p := parser{Family: f, table: &proxy.Table{}, fronts: map[string]*Slots{}, addrs: map[string]map[string]bool{setClusterIPs: {}, setVIPs: {}}}
	for _, pass := range []func(Element){p.addr, p.exists, p.fill} {
		for _, e := range elems {
			pass(e)
		}
	}
	fronts := make([]*Slots, 0, len(p.fronts))
	for _, pl := range p.fronts {
		pl.Cluster = endpoints(pl.cluster.at)
		pl.Local = endpoints(pl.local.at)
		fronts = append(fronts, pl)
	}
	sortSlots(fronts)
	for _, pl := range fronts {
		p.table.Frontends = append(p.table.Frontends, pl.Frontend)
	}
	return p.table, fronts
}

func sortSlots(ps []*Slots) {
	slices.SortFunc(ps, func(a, b *Slots) int { return a.Key.Compare(b.Key) })
}

type parser struct {
	*Family
	table  *proxy.Table
	fronts map[string]*Slots
	addrs  map[string]map[string]bool // what the sets of ClusterIPs and VIPs hold
	// The set of the previous element, taken apart: elements are sorted.
	set    string
	number int  // the slot, if the set is a slot map
	local  bool // of a slot map
}

// addr notes that an address is a ClusterIP or a VIP.
func (p *parser) addr(e Element) {
	if set := p.addrs[e.Set]; set != nil {
		set[e.Key] = true
	}
}

// kind is what a Frontend at an address is. An address of a ClusterIP can be an
// external IP as well, for another port.
func (p *parser) kind(addr string, external bool) proxy.Kind {
	switch {
	case p.addrs[setClusterIPs][addr] && !external:
		return proxy.ClusterIP
	case p.addrs[setVIPs][addr]:
		return proxy.VIP
	}
	return proxy.ExternalIP
}

// exists makes a Frontend of an element that proves that there is one, with the kind
// and the policy that the element proves. Elements are sorted by set, so external
// comes before the others. A table of an older version has neither of the sets of
// external Frontends; what its Frontends lack is then a change.
func (p *parser) exists(e Element) {
	switch e.Set {
	case setExternal, setNodePorts:
		pl := p.frontend(e.Key, e.Set == setNodePorts)
		pl.LocalOnly = true
		if e.Set == setExternal {
			pl.Kind = p.kind(e.Key[:p.AddrLen], true)
		}
	case setExternalCluster, setNodePortsCluster:
		p.frontend(e.Key, e.Set == setNodePortsCluster).LocalOnly = e.Comment == commentLocal
	case mapNoEndpoints, "np-" + mapNoEndpoints:
		pl := p.frontend(e.Key, e.Set != mapNoEndpoints)
		pl.Empty = proxy.Reject
		if e.Data == "drop" {
			pl.Empty = proxy.Drop
		}
	case variant{}.frontends(), variant{nodePort: true}.frontends():
		p.frontend(e.Key, e.Set != variant{}.frontends())
	case setVIPPorts: // the last of them
		if p.fronts[e.Key] == nil {
			p.frontend(e.Key, false).Kind = proxy.Guard
		}
	}
}

// frontend returns the Frontend with this key, a new one if there is none.
func (p *parser) frontend(key string, nodePort bool) *Slots {
	if pl := p.fronts[key]; pl != nil {
		return pl
	}
	pl := &Slots{Frontend: &proxy.Frontend{Key: proxy.Key{Kind: proxy.NodePort, Family: p.ID}}}
	p.fronts[key] = pl
	if !nodePort {
		pl.Kind, pl.Addr = p.kind(key[:p.AddrLen], false), p.addrOf(key)
		key = key[p.AddrLen:]
	}
	pl.Protocol, pl.Port = snapshot.Protocol(key[0]), portOf(key[4:])
	return pl
}

// fill adds what an element says to the Table and its Frontends.
func (p *parser) fill(e Element) {
	switch e.Set {
	case setNodePortIPs:
		p.table.NodePortAddrs = append(p.table.NodePortAddrs, p.addrOf(e.Key))
	case setServiceCIDRs:
		p.table.ServiceCIDRs = append(p.table.ServiceCIDRs, p.prefixes(e.Key, e.End)...)
	case setLocalPods:
		p.table.LocalPods = append(p.table.LocalPods, p.prefixes(e.Key, e.End)...)
	case setLocalLinks:
		p.table.LocalLinks = append(p.table.LocalLinks, e.linkName())
	case setHairpin:
		rest := e.Key[2*p.AddrLen:]
		p.table.Hairpin = append(p.table.Hairpin, proxy.Target{
			Protocol: snapshot.Protocol(rest[0]), Addr: netip.AddrPortFrom(p.addrOf(e.Key), portOf(rest[4:]))})
	case setSourceVIPs:
		if pl := p.fronts[e.Key]; pl != nil && pl.Sources == nil {
			pl.Sources = []netip.Prefix{}
		}
	case SetSourceAllow:
		n := len(e.Key) - p.AddrLen
		if pl := p.fronts[e.Key[:n]]; pl != nil {
			pl.Sources = append(pl.Sources, p.prefixes(e.Key[n:], e.End[n:])...)
		}
	default:
		if pl := p.fronts[e.Key]; pl != nil {
			p.fillSlot(pl, e)
		}
	}
}

// fillSlot adds the endpoint of a slot map, or what the name of a chain says.
func (p *parser) fillSlot(pl *Slots, e Element) {
	if target, ok := strings.CutPrefix(e.Data, "goto "); ok {
		if b, ok := parseBalance(target); ok {
			pl.Affinity = time.Duration(b.sticky) * time.Second
			pl.slots(b.local).over = b.n
		}
		return
	}
	if p.set != e.Set {
		p.set, p.number = e.Set, -1
		name := strings.TrimPrefix(e.Set, "np-")
		if name, ok := strings.CutPrefix(name, "ep-"); ok {
			name, p.local = strings.CutPrefix(name, "local-")
			if n, err := strconv.Atoi(name); err == nil {
				p.number = n
			}
		}
	}
	if p.number < 0 || len(e.Data) < p.AddrLen+2 {
		return
	}
	slots := pl.slots(p.local)
	for len(slots.at) <= p.number {
		slots.at = append(slots.at, netip.AddrPort{})
	}
	slots.at[p.number] = netip.AddrPortFrom(p.addrOf(e.Data), portOf(e.Data[p.AddrLen:]))
}

func (f *Family) prefixes(from, to string) []netip.Prefix {
	return netipx.IPRangeFrom(f.addrOf(from), f.addrOf(to)).Prefixes()
}

// joinTables puts the two families' Tables together.
func joinTables(ts ...*proxy.Table) *proxy.Table {
	out := &proxy.Table{}
	for _, t := range ts {
		out.Frontends = append(out.Frontends, t.Frontends...)
		out.NodePortAddrs = append(out.NodePortAddrs, t.NodePortAddrs...)
		out.ServiceCIDRs = append(out.ServiceCIDRs, t.ServiceCIDRs...)
		out.LocalPods = append(out.LocalPods, t.LocalPods...)
		out.LocalLinks = append(out.LocalLinks, t.LocalLinks...)
		out.Hairpin = append(out.Hairpin, t.Hairpin...)
	}
	slices.SortFunc(out.Frontends, func(a, b *proxy.Frontend) int { return a.Key.Compare(b.Key) })
	slices.SortFunc(out.Hairpin, proxy.Target.Compare)
	slices.Sort(out.LocalLinks)
	out.LocalLinks = slices.Compact(out.LocalLinks)
	return out
}
