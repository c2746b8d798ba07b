// Package host reads what internal/cli/doctor wants to know of the machine that it
// runs on. It changes nothing.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	gnft "github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/doctor"
	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/sysctl"
	nftables "github.com/fairlead/fairlead/proxy/nftables/netlink"
)

// Options say where to look.
type Options struct {
	Node    string         // this node's name in Kubernetes
	Sysctls string         // /proc/sys
	Cluster *cluster.State // nil if it is not known
}

// MemberPort is where agents speak with each other, UDP and TCP.
const MemberPort = 7947

// bfdPort is that of BFD's single-hop sessions (RFC 5881), UDP.
const bfdPort = 3784

// Read looks at this machine.
func Read(ctx context.Context, opt Options) (doctor.Host, error) {
	links, err := link.Read()
	if err != nil {
		return doctor.Host{}, err
	}
	h := doctor.Host{Name: opt.Node, Needs: needs(links, opt)}
	for _, l := range links.Links {
		h.Links = append(h.Links, doctor.HostLink{Link: l, MTU: mtu(l.Name)})
	}
	h.Settings = settings(opt.Sysctls, h)
	h.Tracked, _ = strconv.Atoi(h.Settings["net.netfilter.nf_conntrack_count"])
	h.TrackMax, _ = strconv.Atoi(h.Settings["net.netfilter.nf_conntrack_max"])
	engine := nftables.New(nftables.Options{Log: slog.New(slog.DiscardHandler)})
	if err := errors.Join(engine.Probe(ctx), l2.Probe(0)); err != nil {
		h.NFTables = err.Error()
	}
	h.Packet = packetSocket()
	h.Taken = taken()
	h.Droppers = droppers()
	h.Blocked = blocked(opt)
	return h, nil
}

// needs is what the node's settings depend on, as its agent finds it out.
func needs(links link.State, opt Options) sysctl.Node {
	n := sysctl.Node{Forwards: true, Addrs: links.Addrs, Learns: learns()}
	for _, l := range links.Links {
		if slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() }) {
			n.Announce = append(n.Announce, l.Name)
		}
	}
	if opt.Cluster == nil {
		return n
	}
	if a := opt.Cluster.NodeState(opt.Node); a != nil && a.Engine.Mode != "nftables" && a.Engine.Mode != "" {
		n.Forwards = false
	}
	node := opt.Cluster.Node(opt.Node)
	for _, l := range links.Links {
		_, err := os.Stat(filepath.Join("/sys/class/net", l.Name, "bridge"))
		if node != nil && err == nil && ofPods(l, node) {
			n.Bridged = true
		}
	}
	return n
}

func ofPods(l snapshot.Link, node *snapshot.Node) bool {
	return slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool {
		return slices.ContainsFunc(node.PodCIDRs, func(c netip.Prefix) bool { return c.Contains(p.Addr()) })
	})
}

// learns reports whether the node has routes from router advertisements
// (RTPROT_RA is 9).
func learns() bool {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Protocol: 9}, netlink.RT_FILTER_PROTOCOL)
	return err == nil && len(routes) > 0
}

func mtu(name string) int {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return 0
	}
	return l.Attrs().MTU
}

// settings reads what the doctor compares; what the kernel does not have is left
// out.
func settings(dir string, h doctor.Host) map[string]string {
	names := []string{
		"net.ipv4.conf.all.rp_filter", "net.netfilter.nf_conntrack_tcp_be_liberal",
		"net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max",
	}
	for _, s := range sysctl.Needed(h.Needs) {
		names = append(names, s.Name)
	}
	for _, l := range h.Links {
		dotted := strings.ReplaceAll(l.Name, ".", "/")
		names = append(names, "net.ipv4.conf."+dotted+".rp_filter", "net.ipv6.conf."+dotted+".accept_ra")
	}
	out := map[string]string{}
	for _, name := range names {
		if b, err := os.ReadFile(sysctl.Dir(dir).File(name)); err == nil {
			out[name] = strings.TrimSpace(string(b))
		}
	}
	return out
}

// packetSocket says why no packet socket can be had; "" if one can.
func packetSocket() string {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err.Error()
	}
	if err := unix.Close(fd); err != nil {
		return err.Error()
	}
	return ""
}

// taken tries the ports that fairlead listens on. An agent of ours that runs has
// them rightly.
func taken() []doctor.Taken {
	if runs("fairlead") {
		return nil
	}
	var out []doctor.Taken
	for _, p := range []struct {
		network string
		port    int
		what    string
	}{{"tcp", MemberPort, "agents to see who is alive"}, {"udp", MemberPort, "agents to see who is alive"}, {"udp", bfdPort, "BFD"}} {
		if busy(p.network, p.port) {
			out = append(out, doctor.Taken{Port: fmt.Sprintf("%d/%s", p.port, p.network), For: p.what})
		}
	}
	return out
}

// droppers lists the chains of others that drop forwarded packets by default. A
// kernel that does not tell has none.
func droppers() []string {
	conn, err := gnft.New()
	if err != nil {
		return nil
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil
	}
	var out []string
	for _, c := range chains {
		if c.Hooknum != nil && *c.Hooknum == *gnft.ChainHookForward && c.Policy != nil && *c.Policy == gnft.ChainPolicyDrop && c.Table.Name != "fairlead" {
			out = append(out, "chain "+c.Name+" of table "+c.Table.Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// busy reports whether nobody else can listen there.
func busy(network string, port int) bool {
	addr := fmt.Sprintf(":%d", port)
	if network == "udp" {
		c, err := net.ListenPacket(network, addr)
		if err == nil {
			_ = c.Close()
		}
		return errors.Is(err, unix.EADDRINUSE)
	}
	l, err := net.Listen(network, addr)
	if err == nil {
		_ = l.Close()
	}
	return errors.Is(err, unix.EADDRINUSE)
}

// runs reports whether another process of this name runs in this network
// namespace.
func runs(name string) bool {
	here, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return false
	}
	files, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return false
	}
	for _, f := range files {
		dir := filepath.Dir(f)
		b, err := os.ReadFile(f)
		if err != nil || strings.TrimSpace(string(b)) != name || filepath.Base(dir) == strconv.Itoa(os.Getpid()) {
			continue
		}
		if space, err := os.Readlink(filepath.Join(dir, "ns", "net")); err == nil && space == here {
			return true
		}
	}
	return false
}
