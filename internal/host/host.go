// Package host reads what internal/doctor wants to know of the machine that it
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
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/cluster"
	"github.com/fairlead/fairlead/internal/doctor"
	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/sysctl"
	"github.com/fairlead/fairlead/proxy/nftables"
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
	if err := nftables.New(nftables.Options{Log: slog.New(slog.DiscardHandler)}).Probe(ctx); err != nil {
		h.NFTables = err.Error()
	}
	h.Packet = packetSocket()
	h.Taken = taken()
	h.Blocked = blocked(ctx, opt)
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
	if a := opt.Cluster.Agent(opt.Node); a != nil && a.Mode != "nftables" && a.Mode != "" {
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

// learns tells whether the node has routes from router advertisements
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

// busy tells whether nobody else can listen there.
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

// runs tells whether another process of this name runs.
func runs(name string) bool {
	files, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return false
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil && strings.TrimSpace(string(b)) == name && filepath.Base(filepath.Dir(f)) != strconv.Itoa(os.Getpid()) {
			return true
		}
	}
	return false
}

// patience is how long another node has to answer. A port that nobody listens
// on answers at once, too: with a reset.
const patience = 2 * time.Second

// blocked asks every other node's agent port, all at once, and lists those that
// do not answer at all.
func blocked(ctx context.Context, opt Options) []string {
	if opt.Cluster == nil {
		return nil
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var out []string
	slots := make(chan struct{}, 32)
	for _, n := range opt.Cluster.Nodes {
		if n.Name == opt.Node || !n.Ready {
			continue
		}
		for _, ip := range n.InternalIPs {
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				to := netip.AddrPortFrom(ip, MemberPort)
				if !answers(ctx, to) {
					mu.Lock()
					defer mu.Unlock()
					out = append(out, fmt.Sprintf("%s/tcp of node %s", to, n.Name))
				}
			})
		}
	}
	wg.Wait()
	slices.Sort(out)
	return out
}

func answers(ctx context.Context, to netip.AddrPort) bool {
	d := net.Dialer{Timeout: patience}
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err == nil {
		_ = c.Close()
		return true
	}
	return errors.Is(err, unix.ECONNREFUSED)
}
