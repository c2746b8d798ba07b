// Package sysctl knows the kernel settings that a node needs for forwarding and
// announcing, sets those that it may, and tells of the rest.
package sysctl

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Setting is one kernel setting, named as sysctl(8) does: a dot inside a link's
// name is written as a slash.
type Setting struct {
	Name string
	Want string
	Why  string
	// Leave says why it must not be set, only told of; "": nothing against it.
	Leave string
}

// Node is what the settings of a node depend on.
type Node struct {
	Forwards bool         // by fairlead; other proxies see to their own settings
	Addrs    []netip.Addr // of the node: their families are forwarded
	Announce []string     // names of links on which VIPs of IPv4 are announced
	Strict   []string     // names of links whose reverse path filter drops clients that are answered by them
	Bridged  bool         // pods of the node are ports of a bridge
	Learns   bool         // the node has IPv6 routes from router advertisements
}

// Needed returns the settings that the node needs, sorted by name.
func Needed(n Node) []Setting {
	var out []Setting
	need := func(name, want, why string) { out = append(out, Setting{Name: name, Want: want, Why: why}) }
	families := map[snapshot.Family]bool{}
	for _, a := range n.Addrs {
		if !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			families[snapshot.FamilyOf(a)] = true
		}
	}
	if families[snapshot.IPv4] && n.Forwards {
		need("net.ipv4.ip_forward", "1", "packets to pods are forwarded")
	}
	if families[snapshot.IPv6] && n.Forwards {
		need("net.ipv6.conf.all.forwarding", "1", "packets to pods are forwarded")
		if n.Learns {
			out[len(out)-1].Leave = "with it the kernel forgets the routes that it learns from router advertisements, unless accept_ra is 2 first"
		}
	}
	if n.Bridged && n.Forwards {
		const why = "answers between pods on one bridge pass the translation of addresses"
		if families[snapshot.IPv4] {
			need("net.bridge.bridge-nf-call-iptables", "1", why)
		}
		if families[snapshot.IPv6] {
			need("net.bridge.bridge-nf-call-ip6tables", "1", why)
		}
	}
	if len(n.Announce) > 0 {
		// The kernel sends redirects if either of the two says so.
		const why = "clients in the subnet of a VIP are not redirected past this node"
		need("net.ipv4.conf.all.send_redirects", "0", why)
		for _, link := range n.Announce {
			need("net.ipv4.conf."+strings.ReplaceAll(link, ".", "/")+".send_redirects", "0", why)
		}
	}
	for _, link := range n.Strict {
		need(reversePath(link), "2", "clients behind the link's router are answered by that link, although the routes lead elsewhere")
	}
	slices.SortFunc(out, func(a, b Setting) int { return cmp.Compare(a.Name, b.Name) })
	return slices.Compact(out)
}

// reversePath is the reverse path filter of a link, or of all.
func reversePath(link string) string {
	return "net.ipv4.conf." + strings.ReplaceAll(link, ".", "/") + ".rp_filter"
}
