package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
	nftables "github.com/fairlead/fairlead/proxy/nftables/netlink"
)

// town is a node that announces a VIP of each family to a client, with two pods.
// The one named "service" is the endpoint of port 80 of the VIPs. The one named
// "hostport" has hostPorts 80 and 81. Something on the node listens on port 22 of
// all addresses, as sshd does. All answer with their name, over TCP and UDP.
type town struct {
	client, node, service, hostport nstest.Space
	engine                          *nftables.Engine
	table                           *proxy.Table
}

// The addresses of a town, IPv4 and IPv6.
var (
	townVIPs     = []netip.Addr{netip.MustParseAddr("198.18.0.200"), netip.MustParseAddr("fd98:18::200")}
	townNode     = []netip.Addr{netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("fd98:18::1")}
	townService  = []netip.Addr{netip.MustParseAddr("198.18.1.2"), netip.MustParseAddr("fd98:18:1::2")}
	townHostport = []netip.Addr{netip.MustParseAddr("198.18.2.2"), netip.MustParseAddr("fd98:18:2::2")}
)

func newTown(t *testing.T) *town {
	w := &town{client: nstest.New(t, "client"), node: nstest.New(t, "node"), service: nstest.New(t, "service"), hostport: nstest.New(t, "hostport")}
	w.node.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=1",
		"net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
	for i, s := range []nstest.Space{w.client, w.service, w.hostport} {
		link := fmt.Sprintf("eth%d", i)
		w.node.Run(t, "ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", s.Name)
		for _, side := range []struct {
			nstest.Space
			link string
			host int
		}{{w.node, link, 1}, {s, "eth0", 2}} {
			side.Run(t, "ip", "link", "set", side.link, "up")
			v6 := fmt.Sprintf("fd98:18:%d::%d/64", i, side.host)
			side.Run(t, "ip", "addr", "add", fmt.Sprintf("198.18.%d.%d/24", i, side.host), "dev", side.link)
			side.Run(t, "ip", "addr", "add", strings.Replace(v6, ":0::", "::", 1), "dev", side.link, "nodad")
		}
		if i > 0 {
			s.Run(t, "ip", "route", "add", "default", "via", fmt.Sprintf("198.18.%d.1", i))
			s.Run(t, "ip", "-6", "route", "add", "default", "via", fmt.Sprintf("fd98:18:%d::1", i))
		}
	}
	serveAll(t, w.service, "service", "8080")
	serveAll(t, w.hostport, "hostport", "8080")
	serveAll(t, w.node, "sshd", "22")
	w.engine = nftables.New(nftables.Options{Netns: int(w.node.Handle), Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(w.engine.Close)
	w.table = &proxy.Table{}
	for i, vip := range townVIPs {
		for _, p := range []snapshot.Protocol{snapshot.TCP, snapshot.UDP} {
			w.table.Frontends = append(w.table.Frontends, &proxy.Frontend{
				Key:     proxy.Key{Kind: proxy.VIP, Family: snapshot.FamilyOf(vip), Addr: vip, Protocol: p, Port: 80},
				Cluster: []netip.AddrPort{netip.AddrPortFrom(townService[i], 8080)},
			})
		}
	}
	return w
}

// serveAll answers with a name on a port of all addresses.
func serveAll(t *testing.T, s nstest.Space, name, port string) {
	t.Helper()
	serve(t, s, port, name)
	var udp []net.PacketConn
	s.Do(t, func() error {
		for _, network := range []string{"udp4", "udp6"} {
			c, err := net.ListenPacket(network, ":"+port)
			if err != nil {
				return err
			}
			udp = append(udp, c)
		}
		return nil
	})
	for _, c := range udp {
		t.Cleanup(func() { c.Close() })
		go func() {
			b := make([]byte, 64)
			for _, from, err := c.ReadFrom(b); err == nil; _, from, err = c.ReadFrom(b) {
				_, _ = c.WriteTo([]byte(name), from)
			}
		}()
	}
}

// announce puts the VIPs and what forwards them, or guards them, into the kernel.
func (w *town) announce(t *testing.T) {
	t.Helper()
	if _, err := w.engine.Sync(t.Context(), w.table); err != nil {
		t.Fatal(err)
	}
	leases := l2.New(w.node.Netlink(t), int(w.node.Handle), slog.New(slog.DiscardHandler)) // as after a restart
	claims := []announcer.Claim{{Addr: townVIPs[0], Link: "eth0"}, {Addr: townVIPs[1], Link: "eth0"}}
	if held, err := leases.Sync(announcer.Set{Claims: claims}); err != nil || len(held) != 2 {
		t.Fatalf("holds %v, %v", held, err)
	}
}

// ask returns who answers, "refused", or another error.
func ask(from nstest.Space, network string, to netip.AddrPort) string {
	var got string
	err := from.In(func() error {
		c, err := net.DialTimeout(network, to.String(), 5*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err = c.Write([]byte("?")); err != nil {
			return err
		}
		b := make([]byte, 64)
		n, err := c.Read(b)
		got = string(b[:n])
		return err
	})
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EPERM): // the latter at UDP on the node itself
		return "refused"
	case err != nil:
		return err.Error()
	}
	return got
}

// check asks every port of the VIPs and of the node.
func (w *town) check(t *testing.T, what string) {
	t.Helper()
	for i := range townVIPs {
		for _, network := range []string{"tcp", "udp"} {
			for _, q := range []struct {
				from nstest.Space
				addr netip.Addr
				port uint16
				want string
			}{
				{w.client, townVIPs[i], 80, "service"},
				{w.client, townVIPs[i], 81, "refused"},
				{w.client, townVIPs[i], 82, "refused"},
				{w.client, townVIPs[i], 22, "refused"},
				{w.node, townVIPs[i], 80, "service"},
				{w.node, townVIPs[i], 81, "refused"},
				{w.node, townVIPs[i], 22, "refused"},
				{w.client, townNode[i], 80, "hostport"},
				{w.client, townNode[i], 81, "hostport"},
				{w.client, townNode[i], 82, "sshd"},
				{w.client, townNode[i], 22, "sshd"},
			} {
				to := netip.AddrPortFrom(q.addr, q.port)
				if got := ask(q.from, network, to); got != q.want {
					t.Errorf("%s: %s from %s to %s is answered by %q, want %q", what, network, q.from.Name, to, got, q.want)
				}
			}
		}
	}
}

// kinds are the ways in which others write their rules: as nftables of their own, or
// by iptables on nftables or on the older interface.
var kinds = []string{"nftables", "nft", "legacy"}

// native writes the rules of one table for both families. In text, FAMILY is ip or
// ip6, and VIP, SERVICE and HOSTPORT are addresses with their port.
func (w *town) native(t *testing.T, text string) {
	t.Helper()
	for i, family := range []string{"ip", "ip6"} {
		at := func(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }
		w.node.Pipe(t, strings.NewReplacer("FAMILY", family, "VIP", townVIPs[i].String(),
			"SERVICE", at(townService[i], 8080), "HOSTPORT", at(townHostport[i], 8080)).Replace(text), "nft", "-f", "-")
	}
}

// others writes rules as the CNI plugin portmap and Docker do, for hostPorts 80 and
// 81 of every address of the node, and one for port 82 of any address at all.
func (w *town) others(t *testing.T, kind string) {
	t.Helper()
	if kind == "nftables" {
		w.native(t, `table FAMILY hostports {
			chain ports {
				tcp dport { 80, 81 } dnat to HOSTPORT
				udp dport { 80, 81 } dnat to HOSTPORT
			}
			chain prerouting {
				type nat hook prerouting priority -100
				fib daddr type local jump ports
				tcp dport 82 redirect to :22
				udp dport 82 redirect to :22
			}
			chain output {
				type nat hook output priority -100
				fib daddr type local jump ports
			}
		}`)
		return
	}
	for i, program := range []string{"iptables-" + kind, "ip6tables-" + kind} {
		loopback, to := []string{"127.0.0.0/8", "::1/128"}[i], netip.AddrPortFrom(townHostport[i], 8080).String()
		for _, rule := range []string{
			"-N CNI-HOSTPORT-DNAT", "-N DOCKER",
			"-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
			"-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
			"-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
			"-A OUTPUT ! -d " + loopback + " -m addrtype --dst-type LOCAL -j DOCKER",
			"-A CNI-HOSTPORT-DNAT -p tcp --dport 80 -j DNAT --to-destination " + to,
			"-A CNI-HOSTPORT-DNAT -p udp --dport 80 -j DNAT --to-destination " + to,
			"-A DOCKER ! -i docker0 -p tcp --dport 81 -j DNAT --to-destination " + to,
			"-A DOCKER ! -i docker0 -p udp --dport 81 -j DNAT --to-destination " + to,
			"-A PREROUTING -p tcp --dport 82 -j REDIRECT --to-ports 22",
			"-A PREROUTING -p udp --dport 82 -j REDIRECT --to-ports 22",
		} {
			w.node.Run(t, append([]string{program, "-w", "-t", "nat"}, strings.Fields(rule)...)...)
		}
	}
}

// kubeProxy writes rules as kube-proxy does for the Service.
func (w *town) kubeProxy(t *testing.T, kind string) {
	t.Helper()
	if kind == "nftables" {
		w.native(t, `table FAMILY kube-proxy {
			chain services {
				FAMILY daddr VIP tcp dport 80 dnat to SERVICE
				FAMILY daddr VIP udp dport 80 dnat to SERVICE
			}
			chain nat-prerouting {
				type nat hook prerouting priority -100
				jump services
			}
			chain nat-output {
				type nat hook output priority -100
				jump services
			}
		}`)
		return
	}
	for i, program := range []string{"iptables-" + kind, "ip6tables-" + kind} {
		for _, rule := range []string{"-N KUBE-SERVICES", "-A PREROUTING -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES"} {
			w.node.Run(t, append([]string{program, "-w", "-t", "nat"}, strings.Fields(rule)...)...)
		}
		for _, p := range []string{"tcp", "udp"} {
			w.node.Run(t, program, "-w", "-t", "nat", "-A", "KUBE-SERVICES", "-d", townVIPs[i].String(), "-p", p, "--dport", "80",
				"-j", "DNAT", "--to-destination", netip.AddrPortFrom(townService[i], 8080).String())
		}
	}
}

func (w *town) flush(t *testing.T, kind string) {
	t.Helper()
	w.node.Run(t, "nft", "flush", "ruleset")
	if kind == "legacy" {
		for _, program := range []string{"iptables-legacy", "ip6tables-legacy"} {
			w.node.Run(t, program, "-t", "nat", "-F")
			w.node.Run(t, program, "-t", "nat", "-X")
		}
	}
}

// The rules of others never take a port of a VIP, whatever came up first, and also
// after the whole ruleset was flushed. Their ports stay theirs at the node's own
// addresses. What listens on all addresses of the node does not answer at a VIP.
func TestOthersTakeNoVIP(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			w := newTown(t)
			w.others(t, kind)
			w.announce(t)
			w.check(t, "others first")
			w.flush(t, kind)
			w.announce(t)
			w.others(t, kind)
			w.check(t, "ours first, after a flush")
			w.flush(t, kind)
			w.others(t, kind)
			w.announce(t)
			w.check(t, "others first, after a flush")
		})
	}
}

// The same where kube-proxy forwards: it does not matter whose rules are first.
func TestOthersTakeNoVIPOfAnotherProxy(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			w := newTown(t)
			w.table = w.table.Guarded()
			w.others(t, kind)
			w.kubeProxy(t, kind)
			w.announce(t)
			w.check(t, "hostPorts, kube-proxy, ours")
			w.flush(t, kind)
			w.announce(t)
			w.kubeProxy(t, kind)
			w.others(t, kind)
			w.check(t, "ours, kube-proxy, hostPorts")
		})
	}
}

// A ping to a VIP is answered, also where another proxy forwards.
func TestPingToVIP(t *testing.T) {
	w := newTown(t)
	for _, table := range []*proxy.Table{w.table, w.table.Guarded()} {
		w.table = table
		w.announce(t)
		for _, vip := range townVIPs {
			w.client.Run(t, "ping", "-c", "1", "-W", "10", vip.String())
			w.node.Run(t, "ping", "-c", "1", "-W", "10", vip.String())
		}
	}
}
