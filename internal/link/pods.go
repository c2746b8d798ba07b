package link

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routes is what matters of the node's routes, of all tables. Those of a router can be
// a million: only what may lead to a pod is kept, and which links lead elsewhere.
type routes struct {
	hosts    []host       // to one address, without a gateway
	gateways map[int]bool // the links that have routes with a gateway, by index
	routers  map[onWay]toRouter
}

// host is a route to one address.
type host struct {
	addr netip.Addr
	link int // index
}

// readRoutes takes the routes from the kernel of this network namespace.
func readRoutes() (routes, error) {
	rs := routes{gateways: map[int]bool{}}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		// Policy routing has tables of its own for pods on some clouds.
		allTables := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
		err := netlink.RouteListFilteredIter(family, allTables, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
			rs.add(r)
			return true
		})
		// What interrupts the list changes a route, and all that concerns pods is an event:
		// then it is read again. Where routers change routes all the time, no list is ever
		// without a change.
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return routes{}, fmt.Errorf("list routes: %w", err)
		}
	}
	return rs, nil
}

func (rs *routes) add(r netlink.Route) {
	if r.Type != unix.RTN_UNICAST {
		return // a blackhole, the node's own address, ...
	}
	for _, hop := range r.MultiPath {
		rs.gateways[hop.LinkIndex] = true
		rs.addRouter(r, hop.LinkIndex, hop.Gw)
	}
	if r.Gw != nil || r.Via != nil {
		rs.gateways[r.LinkIndex] = true
		rs.addRouter(r, r.LinkIndex, r.Gw)
		return
	}
	if a, ok := single(r); ok && len(r.MultiPath) == 0 {
		rs.hosts = append(rs.hosts, host{a, r.LinkIndex})
	}
}

// single returns the only address that r leads to, if it can be a pod's.
func single(r netlink.Route) (netip.Addr, bool) {
	if r.Dst == nil {
		return netip.Addr{}, false
	}
	a, ok := netip.AddrFromSlice(r.Dst.IP)
	ones, bits := r.Dst.Mask.Size()
	return a, ok && ones == bits && a.IsGlobalUnicast()
}

// pods is the decision: a pod of this node is at an address to which a route of its
// own leads, without a gateway, over a link of a pod. That is how Calico, the CNIs of
// the clouds, ptp and kindnet connect a pod. It returns the addresses and the names
// of these links.
//
// A route to one address alone shows nothing: VPNs and routers have thousands.
func pods(links []netlink.Link, addrs []netlink.Addr, rs routes) (found []netip.Addr, names []string) {
	networks, own := map[int]bool{}, map[netip.Addr]bool{}
	for _, a := range addrs {
		p, ok := prefix(a)
		if !ok {
			continue
		}
		own[p.Addr()] = true // on IPv6, a route as that of a pod leads to it
		// The uplink of a node that is a container itself is a veth too, with a network.
		if !p.IsSingleIP() && !p.Addr().IsLinkLocalUnicast() {
			networks[a.LinkIndex] = true
		}
	}
	ofPod := map[int]string{}
	for _, l := range links {
		if i := l.Attrs().Index; intoPod(l) && !networks[i] && !rs.gateways[i] {
			ofPod[i] = l.Attrs().Name
		}
	}
	for _, h := range rs.hosts {
		if name := ofPod[h.link]; name != "" && !own[h.addr] {
			found, names = append(found, h.addr), append(names, name)
		}
	}
	slices.SortFunc(found, netip.Addr.Compare)
	slices.Sort(names)
	return slices.Compact(found), slices.Compact(names)
}

// intoPod reports whether l leads into another network namespace, as a pod's link
// does. The node's own uplink does too where the node is a container itself; that one
// has a network or a gateway.
func intoPod(l netlink.Link) bool {
	return (l.Type() == "veth" || l.Type() == "netkit") && l.Attrs().NetNsID >= 0
}
