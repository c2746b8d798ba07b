// Package link follows the node's network links, addresses and routes through netlink.
// It says which links could carry a VIP, and at which addresses pods of the node are.
package link

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// State is the node's links and addresses, and where its pods are, at one moment. All
// lists are sorted.
type State struct {
	Links []snapshot.Link // those that could carry a VIP
	// Bare could as well, but have no address of their own: see For.
	Bare  []snapshot.Link
	Addrs []netip.Addr // every address of the node but its VIPs
	// Prefixes are those that routers announce on links.
	Prefixes []snapshot.LinkPrefix
	// Pods are the addresses to which a route over a pod's link leads, PodLinks the
	// names of these links.
	Pods     []netip.Addr
	PodLinks []string
	// Ways are how answers can leave by Links and Bare links with a router.
	Ways []Way
}

// Read takes the State from the kernel of this network namespace, as a whole or not at all.
func Read() (State, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return State{}, fmt.Errorf("list links: %w", err)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return State{}, fmt.Errorf("list addresses: %w", err)
	}
	rs, err := readRoutes()
	if err != nil {
		return State{}, err
	}
	st := resolve(links, addrs)
	st.Pods, st.PodLinks = pods(links, addrs, rs)
	if st.Prefixes, err = readPrefixes(links); err != nil {
		return State{}, err
	}
	st.Ways = ways(st.uplinks(rs), rs, masters(links))
	return st, nil
}

// ipvsLink has the addresses of all Services while kube-proxy runs with IPVS, and
// afterwards until somebody deletes it. They are not addresses of the node.
const ipvsLink = "kube-ipvs0"

// resolve is the decision: a link is suitable if it is up, with carrier, with
// ARP, not loopback, and neither a bridge's port nor a bond's member. A link in a VRF is
// like others. Those without a prefix, as pods' veths are, are bare.
func resolve(links []netlink.Link, addrs []netlink.Addr) State {
	var s State
	prefixes := map[int][]netip.Prefix{}
	ipvs := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == ipvsLink })
	for _, a := range addrs {
		// Node ports answer at the node's addresses, and must not at a VIP.
		if l2.IsOurs(a) || ipvs >= 0 && a.LinkIndex == links[ipvs].Attrs().Index {
			continue
		}
		p, ok := prefix(a)
		if !ok {
			continue
		}
		s.Addrs = append(s.Addrs, p.Addr())
		// Every link has such a prefix, whatever it is connected with.
		if !p.Addr().IsLinkLocalUnicast() {
			prefixes[a.LinkIndex] = append(prefixes[a.LinkIndex], p)
		}
	}
	vrfs := masters(links)
	for _, l := range links {
		at := l.Attrs()
		if !suitable(at) || at.MasterIndex != 0 && vrfs[at.Index] == "" {
			continue
		}
		ps := prefixes[at.Index]
		slices.SortFunc(ps, netip.Prefix.Compare)
		l := snapshot.Link{Name: at.Name, Index: at.Index, MAC: at.HardwareAddr.String(), Prefixes: ps}
		if len(ps) == 0 {
			s.Bare = append(s.Bare, l)
			continue
		}
		s.Links = append(s.Links, l)
	}
	slices.SortFunc(s.Addrs, netip.Addr.Compare)
	s.Addrs = slices.Compact(s.Addrs)
	slices.SortFunc(s.Links, func(a, b snapshot.Link) int { return a.Index - b.Index })
	return s
}

// For returns Links, and those of Bare that one of announcements names exactly, sorted.
func (s State) For(announcements []*snapshot.Announcement) []snapshot.Link {
	out := slices.Clip(s.Links)
	for _, l := range s.Bare {
		if slices.ContainsFunc(announcements, func(an *snapshot.Announcement) bool { return slices.Contains(an.Interfaces, l.Name) }) {
			out = append(out, l)
		}
	}
	if len(out) > len(s.Links) { // else it is the list that others read
		slices.SortFunc(out, func(a, b snapshot.Link) int { return a.Index - b.Index })
	}
	return out
}

// uplinks are Links, and those of Bare that lead to a router, sorted.
func (s State) uplinks(rs routes) []snapshot.Link {
	out := slices.Clone(s.Links)
	for _, l := range s.Bare {
		_, v4 := rs.routers[onWay{l.Index, true}]
		if _, v6 := rs.routers[onWay{l.Index, false}]; v4 || v6 {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b snapshot.Link) int { return a.Index - b.Index })
	return out
}

func suitable(at *netlink.LinkAttrs) bool {
	// Not every driver says how it is: IF_OPER_UNKNOWN counts as up (operstates in the kernel's
	// documentation).
	up := at.Flags&net.FlagUp != 0 && (at.OperState == netlink.OperUp || at.OperState == netlink.OperUnknown)
	arp := at.RawFlags&unix.IFF_NOARP == 0 && len(at.HardwareAddr) == 6
	return up && arp && at.Flags&net.FlagLoopback == 0
}

// masters returns the names of the VRFs that links are in, by the index of the link.
func masters(links []netlink.Link) map[int]string {
	names, out := map[int]string{}, map[int]string{}
	for _, l := range links {
		if l.Type() == "vrf" {
			names[l.Attrs().Index] = l.Attrs().Name
		}
	}
	for _, l := range links {
		if name := names[l.Attrs().MasterIndex]; name != "" {
			out[l.Attrs().Index] = name
		}
	}
	return out
}

func prefix(a netlink.Addr) (netip.Prefix, bool) {
	ip, ok := netip.AddrFromSlice(a.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, _ := a.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), ones), true
}
