// Package sysctl knows the kernel settings that a node needs for forwarding and
// announcing, sets those that it may, and tells of the rest.
package sysctl

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Setting is one kernel setting, named as sysctl(8) does: a dot inside a link's
// name is written as a slash.
type Setting struct {
	Name string
	Want string
	Why  string
	// Least has a larger number be right as well.
	Least bool
	// Forwards is the family whose packets the kernel drops without it; 0: no family's.
	Forwards snapshot.Family
	// Leave says why it must not be set, only told of; "": nothing against it.
	Leave string
}

// Holds reports whether the setting is right with the value have.
func (s Setting) Holds(have string) bool {
	if !s.Least {
		return have == s.Want
	}
	number, err := strconv.Atoi(have)
	least, errLeast := strconv.Atoi(s.Want)
	return err == nil && errLeast == nil && number >= least
}

// Wrong says that the setting has the value have, and what it must have.
func (s Setting) Wrong(have string) string {
	want := s.Want
	if s.Least {
		want += " or more"
	}
	return fmt.Sprintf("%s is %s and must be %s: %s", s.Name, have, want, s.Why)
}

// Node is what the settings of a node depend on.
type Node struct {
	Forwards bool         // by fairlead; other proxies see to their own settings
	Addrs    []netip.Addr // of the node: their families are forwarded
	Announce []string     // names of links on which VIPs of IPv4 are announced
	Strict   []string     // names of links whose reverse path filter drops clients that are answered by them
	Bridged  bool         // pods of the node are ports of a bridge
	Learns   bool         // the node has IPv6 routes from router advertisements
	CPUs     int          // 0: the connections that the kernel tracks are left as they are
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
		out = append(out, forwarding("net.ipv4.ip_forward", snapshot.IPv4))
	}
	if families[snapshot.IPv6] && n.Forwards {
		out = append(out, forwarding("net.ipv6.conf.all.forwarding", snapshot.IPv6))
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
	if n.Forwards && n.CPUs > 0 {
		out = append(out, tracking(n.CPUs)...)
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

// forwarding is the setting by which the kernel forwards a family.
func forwarding(name string, family snapshot.Family) Setting {
	why := fmt.Sprintf("without it the node drops packets to pods, and announces no %s address", family)
	return Setting{Name: name, Want: "1", Why: why, Forwards: family}
}

// tracking returns what kube-proxy sets by default, as the least. A node that has more keeps
// it.
func tracking(cpus int) []Setting {
	const perCPU, least = 32768, 131072
	most := max(cpus*perCPU, least)
	need := func(name string, want int, why string) Setting {
		return Setting{Name: "net.netfilter.nf_conntrack_" + name, Want: strconv.Itoa(want), Why: why, Least: true}
	}
	return []Setting{
		need("max", most, "the node drops new connections when it tracks as many"),
		need("buckets", most/4, "the node finds a connection among as many without a long search"),
		need("tcp_timeout_established", 86400, "connections that are idle for a day go on"),
		need("tcp_timeout_close_wait", 3600, "connections that one side has closed go on for the other"),
	}
}

// reversePath is the reverse path filter of a link, or of all.
func reversePath(link string) string {
	return "net.ipv4.conf." + strings.ReplaceAll(link, ".", "/") + ".rp_filter"
}
