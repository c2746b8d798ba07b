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

// parse is the inverse of render: the Table that elements of one family stand
// for, and its Frontends with their slots. Elements that render would not have
// made are passed over; a comparison of elements finds them.
func (f *family) parse(elems []element) (*proxy.Table, []*placed) {
	p := parser{family: f, table: &proxy.Table{}, fronts: map[string]*placed{}}
	for _, pass := range []func(element){p.exists, p.fill} {
		for _, e := range elems {
			pass(e)
		}
	}
	fronts := make([]*placed, 0, len(p.fronts))
	for _, pl := range p.fronts {
		pl.Cluster = endpoints(pl.cluster)
		pl.Local = endpoints(pl.local)
		fronts = append(fronts, pl)
	}
	sortPlaced(fronts)
	for _, pl := range fronts {
		p.table.Frontends = append(p.table.Frontends, pl.Frontend)
	}
	return p.table, fronts
}

func sortPlaced(ps []*placed) {
	slices.SortFunc(ps, func(a, b *placed) int { return a.Key.Compare(b.Key) })
}

type parser struct {
	*family
	table  *proxy.Table
	fronts map[string]*placed
	// The set of the previous element, taken apart: elements are sorted.
	set    string
	number int  // the slot, if the set is a slot map
	local  bool // of a slot map
}

// exists makes a Frontend of the elements that say that there is one and of
// which kind it is; those with more to say come first in the order of sets.
func (p *parser) exists(e element) {
	switch e.set {
	case mapExternal, "np-" + mapExternal:
		pl := p.frontend(e.key, e.set != mapExternal)
		pl.Kind = proxy.VIP
		if strings.Contains(e.comment, commentExternalIP) {
			pl.Kind = proxy.ExternalIP
		}
		if e.set != mapExternal {
			pl.Kind = proxy.NodePort
		}
		pl.LocalOnly = strings.HasSuffix(e.data, chainExtLocal) || strings.Contains(e.comment, commentLocal)
	case variant{}.frontends(), mapNoEndpoints, "np-" + mapNoEndpoints:
		pl := p.frontend(e.key, strings.HasPrefix(e.set, "np-"))
		switch {
		case e.set == variant{}.frontends():
		case e.data == "drop":
			pl.Empty = proxy.Drop
		default:
			pl.Empty = proxy.Reject
		}
	}
}

// frontend returns the Frontend with this key, a new ClusterIP if there is none.
func (p *parser) frontend(key string, nodePort bool) *placed {
	if pl := p.fronts[key]; pl != nil {
		return pl
	}
	pl := &placed{Frontend: &proxy.Frontend{Key: proxy.Key{Family: p.id}}}
	p.fronts[key] = pl
	if nodePort {
		pl.Kind = proxy.NodePort
	} else {
		pl.Addr = p.addrOf(key)
		key = key[p.addrLen:]
	}
	pl.Protocol, pl.Port = snapshot.Protocol(key[0]), portOf(key[4:])
	return pl
}

// fill adds what an element says to the Table and its Frontends.
func (p *parser) fill(e element) {
	switch e.set {
	case setNodePortIPs:
		p.table.NodePortAddrs = append(p.table.NodePortAddrs, p.addrOf(e.key))
	case setServiceCIDRs:
		p.table.ServiceCIDRs = append(p.table.ServiceCIDRs, p.prefixes(e.key, e.end)...)
	case setLocalPods:
		p.table.LocalPods = append(p.table.LocalPods, p.prefixes(e.key, e.end)...)
	case setLocalLinks:
		p.table.LocalLinks = append(p.table.LocalLinks, e.linkName())
	case setHairpin:
		rest := e.key[2*p.addrLen:]
		p.table.Hairpin = append(p.table.Hairpin, proxy.Target{
			Protocol: snapshot.Protocol(rest[0]), Addr: netip.AddrPortFrom(p.addrOf(e.key), portOf(rest[4:]))})
	case setSourceVIPs:
		if pl := p.fronts[e.key]; pl != nil && pl.Sources == nil {
			pl.Sources = []netip.Prefix{}
		}
	case setSourceAllow:
		n := len(e.key) - p.addrLen
		if pl := p.fronts[e.key[:n]]; pl != nil {
			pl.Sources = append(pl.Sources, p.prefixes(e.key[n:], e.end[n:])...)
		}
	default:
		if pl := p.fronts[e.key]; pl != nil {
			p.fillSlot(pl, e)
		}
	}
}

// fillSlot adds the endpoint of a slot map, or the affinity that the name of a
// chain tells.
func (p *parser) fillSlot(pl *placed, e element) {
	if target, ok := strings.CutPrefix(e.data, "goto "); ok {
		if b, ok := parseBalance(target); ok && b.sticky > 0 {
			pl.Affinity = time.Duration(b.sticky) * time.Second
		}
		return
	}
	if p.set != e.set {
		p.set, p.number = e.set, -1
		name := strings.TrimPrefix(e.set, "np-")
		if name, ok := strings.CutPrefix(name, "ep-"); ok {
			name, p.local = strings.CutPrefix(name, "local-")
			if n, err := strconv.Atoi(name); err == nil {
				p.number = n
			}
		}
	}
	if p.number < 0 || len(e.data) < p.addrLen+2 {
		return
	}
	slots := &pl.cluster
	if p.local {
		slots = &pl.local
	}
	for len(*slots) <= p.number {
		*slots = append(*slots, slot{})
	}
	ep := netip.AddrPortFrom(p.addrOf(e.data), portOf(e.data[p.addrLen:]))
	(*slots)[p.number] = slot{ep: ep, copy: e.comment == commentCopy}
}

func (f *family) prefixes(from, to string) []netip.Prefix {
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
