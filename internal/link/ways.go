package link

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/link/steer"
	"github.com/fairlead/fairlead/internal/marks"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Way is how answers leave by one link.
type Way struct {
	Link     string
	Index    int
	VRF      string         // that the link is in; "": none
	Networks []netip.Prefix // on the link, masked, sorted
	Routers  []netip.Addr   // one of each family at most
}

// Space is where the kernel has the routes of Ways.
var Space = steer.Space{Priority: marks.LinkRule, First: marks.LinkTable, Most: marks.MostLinks}

// onWay names the routes of one family over one link.
type onWay struct {
	link int // index
	is4  bool
}

// toRouter is a route with a gateway.
type toRouter struct {
	via    netip.Addr
	bits   int // of its destination
	metric int
}

// better reports whether a's via is more likely the way to everywhere than o's: that of the
// route to the larger network, then of the one that the kernel would prefer.
func (a toRouter) better(b toRouter) bool {
	return cmp.Or(cmp.Compare(a.bits, b.bits), cmp.Compare(a.metric, b.metric), a.via.Compare(b.via)) < 0
}

// addRouter notes a hop of r, if its router may be the link's. Routes that fairlead made
// show nothing.
func (rs *routes) addRouter(r netlink.Route, hop int, gw []byte) {
	via, ok := netip.AddrFromSlice(gw)
	if !ok || marks.Own(r.Table) {
		return
	}
	via = via.Unmap()
	now := toRouter{via: via, metric: r.Priority}
	if r.Dst != nil {
		now.bits, _ = r.Dst.Mask.Size()
	}
	if rs.routers == nil {
		rs.routers = map[onWay]toRouter{}
	}
	key := onWay{hop, via.Is4()}
	if was, known := rs.routers[key]; !known || now.better(was) {
		rs.routers[key] = now
	}
}

// Inside leads what came in by a VRF, and is for an endpoint, to the main table: the VRF's own
// has no routes to pods. Where the main table has a default route alone, the VRF's counts: an
// address of the node on the VRF's links, for example.
func Inside(field marks.Field) steer.Lead {
	return steer.Lead{Priority: marks.InsideRule, Table: unix.RT_TABLE_MAIN, Mark: field.Of(marks.Inside), Mask: field.Mask()}
}

// ways returns how answers can leave by each of links, in their order. Where there is one
// link, and it is in no VRF, there is nothing to choose, and ways returns nothing. masters are
// the names of the links' VRFs by index.
func ways(links []snapshot.Link, rs routes, masters map[int]string) (out []Way) {
	apart := func(l snapshot.Link) bool { return masters[l.Index] != "" }
	if len(links) < 2 && !slices.ContainsFunc(links, apart) {
		return nil
	}
	for _, l := range links {
		w := Way{Link: l.Name, Index: l.Index, VRF: masters[l.Index]}
		for _, p := range l.Prefixes {
			if !p.IsSingleIP() {
				w.Networks = append(w.Networks, p.Masked())
			}
		}
		slices.SortFunc(w.Networks, netip.Prefix.Compare)
		w.Networks = slices.Compact(w.Networks)
		for _, is4 := range []bool{true, false} {
			if r, ok := rs.routers[onWay{l.Index, is4}]; ok {
				w.Routers = append(w.Routers, r.via)
			}
		}
		out = append(out, w)
	}
	return out
}

// Table returns the routing table of w with a number. The marks are those of field.
func (w Way) Table(number int, field marks.Field) steer.Table {
	t := steer.Table{Number: number, Mark: field.Of(number), Mask: field.Mask()}
	for _, p := range w.Networks {
		t.Routes = append(t.Routes, steer.Route{Dst: p, Link: w.Index})
	}
	for _, r := range w.Routers {
		all := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		if r.Is4() {
			all = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
		t.Routes = append(t.Routes, steer.Route{Dst: all, Via: r, Link: w.Index})
	}
	return t
}

// Router reports whether a router of IPv4, or of IPv6, is known.
func (w Way) Router(is4 bool) bool {
	return slices.ContainsFunc(w.Routers, func(a netip.Addr) bool { return a.Is4() == is4 })
}
