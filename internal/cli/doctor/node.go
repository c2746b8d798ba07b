package doctor

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/sysctl"
)

// Host is a node as it sees itself.
type Host struct {
	Name     string
	Needs    sysctl.Node       // what its settings depend on
	Settings map[string]string // by name as sysctl(8) writes it; without what the kernel does not have
	Links    []HostLink
	NFTables string // why the kernel refuses our objects; "" if it takes them
	Packet   string // why no packet socket can be had; "" if one can
	Taken    []Taken
	Blocked  []string // TCP ports of other nodes and routers that do not answer at all
	Tracked  int      // connections
	TrackMax int      // 0 if not known
	Droppers []string // chains of others that drop forwarded packets unless a rule of theirs accepts
}

// HostLink is one link that could carry a VIP.
type HostLink struct {
	snapshot.Link
	MTU int
}

// Taken is a port of fairlead's that another program has.
type Taken struct {
	Port string // 7947/udp
	For  string // what fairlead does there
}

// Node finds what is wrong with h.
func Node(h Host) []Finding {
	var out []Finding
	for _, check := range []func(Host) []Finding{settings, filters, tracking, kernel, sockets, mtus} {
		out = append(out, check(h)...)
	}
	return sorted(out)
}

// kept is how a setting is made to stay.
func kept(name, value string) string {
	return "echo '" + name + " = " + value + "' >/etc/sysctl.d/90-fairlead.conf && sysctl -p /etc/sysctl.d/90-fairlead.conf"
}

func settings(h Host) (out []Finding) {
	for _, need := range sysctl.Needed(h.Needs) {
		have, known := h.Settings[need.Name]
		if known && need.Holds(have) {
			continue
		}
		code := KernelSetting
		switch {
		case strings.HasPrefix(need.Name, "net.bridge."):
			code = Bridged
		case strings.HasSuffix(need.Name, ".send_redirects"):
			code = Redirects
		}
		next := kept(need.Name, need.Want)
		if !known {
			have = "unknown to the kernel"
			if code == Bridged {
				next = "modprobe br_netfilter, and add br_netfilter to /etc/modules-load.d/fairlead.conf"
			}
		}
		out = append(out, find(code, node(h.Name), next, "%s", need.Wrong(have)))
	}
	return append(out, advertisements(h)...)
}

// advertisements: a kernel that forwards IPv6 takes no routes from routers any
// more unless accept_ra is 2.
func advertisements(h Host) (out []Finding) {
	if !h.Needs.Learns || !h.Needs.Forwards {
		return nil
	}
	for _, l := range h.Links {
		name := "net.ipv6.conf." + dotted(l.Name) + ".accept_ra"
		if v := h.Settings[name]; v == "1" {
			out = append(out, find(RouterAdvert, node(h.Name), kept(name, "2"),
				"%s is 1, and the node learns IPv6 routes from routers: with forwarding on, the kernel drops them when they expire", name))
		}
	}
	return out
}

func dotted(link string) string { return strings.ReplaceAll(link, ".", "/") }

// filters: the stricter of "all" and the link's own rp_filter counts.
func filters(h Host) (out []Finding) {
	all := h.Settings["net.ipv4.conf.all.rp_filter"]
	for _, l := range h.Links {
		name := "net.ipv4.conf." + dotted(l.Name) + ".rp_filter"
		if max(all, h.Settings[name]) != "1" {
			continue
		}
		out = append(out, find(ReversePath, node(h.Name), kept(name, "2"),
			"the reverse path filter of %s is strict: packets of clients that the node would answer through another link are dropped", l.Name))
	}
	for _, d := range h.Droppers {
		out = append(out, find(ForwardDropped, node(h.Name), "accept packets to and from the pods there (firewalld: put the pod network into the zone trusted; Docker: a rule in DOCKER-USER)",
			"%s drops forwarded packets by default; fairlead's own accept does not overrule it", d))
	}
	return out
}

// trackingFull is the part of the connection table, in percent, from which on it
// is told.
const trackingFull = 80

func tracking(h Host) (out []Finding) {
	if h.Settings["net.netfilter.nf_conntrack_tcp_be_liberal"] == "0" {
		out = append(out, find(StrictTracking, node(h.Name), kept("net.netfilter.nf_conntrack_tcp_be_liberal", "1"),
			"net.netfilter.nf_conntrack_tcp_be_liberal is 0: a packet outside of the TCP window is not translated, and its connection may be reset"))
	}
	if h.TrackMax > 0 && h.Tracked >= h.TrackMax*trackingFull/100 {
		out = append(out, find(TrackingFull, node(h.Name), "raise net.netfilter.nf_conntrack_max",
			"%d of %d connections are tracked: when the table is full, new connections are dropped", h.Tracked, h.TrackMax))
	}
	return out
}

func kernel(h Host) (out []Finding) {
	if h.NFTables != "" {
		out = append(out, find(NoNFTables, node(h.Name), "run this as root; use Linux 5.10 or newer with nf_tables, nft_nat, nft_fib and nf_conntrack", "the kernel does not take fairlead's tables: %s", h.NFTables))
	}
	if h.Packet != "" {
		out = append(out, find(NoPacketSocket, node(h.Name), "allow AF_PACKET: capability NET_RAW, and a seccomp profile that permits socket(AF_PACKET)", "no packet socket can be opened, so no address can be announced by ARP: %s", h.Packet))
	}
	return out
}

func sockets(h Host) (out []Finding) {
	for _, t := range h.Taken {
		out = append(out, find(PortTaken, node(h.Name), "stop that program, or move it to another port", "port %s, which fairlead uses for %s, is taken by another program", t.Port, t.For))
	}
	for _, b := range h.Blocked {
		out = append(out, find(PortBlocked, node(h.Name), "let this node reach it there, in the firewalls of both and between them", "%s does not answer at all: a firewall drops the packets", b))
	}
	return out
}

// mtus compares the links of one network.
func mtus(h Host) (out []Finding) {
	first := map[netip.Prefix]HostLink{}
	for _, l := range h.Links {
		for _, p := range l.Prefixes {
			was, seen := first[p.Masked()]
			if !seen {
				first[p.Masked()] = l
				continue
			}
			if was.MTU != l.MTU {
				out = append(out, find(MTUDiffers, node(h.Name), "give both the same MTU", "%s and %s are both in %s, with MTUs of %d and %d: answers that leave by the larger one may be lost", was.Name, l.Name, p.Masked(), was.MTU, l.MTU))
			}
		}
	}
	return slices.Compact(out)
}

// Summary counts findings: "2 problems, 1 warning".
func Summary(fs []Finding) string {
	n := map[Severity]int{}
	for _, f := range fs {
		n[f.Severity]++
	}
	switch {
	case len(fs) == 0:
		return "no problems found"
	case n[Warning] == 0:
		return cluster.Count(n[Problem], "problem")
	}
	return cluster.Count(n[Problem], "problem") + ", " + cluster.Count(n[Warning], "warning")
}
