package kernel

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/egress"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// The world: nodes n0, n1 and n2 on a LAN, each with two pods, and a router with a host
// behind it that says who connects. A network plugin masquerades what leaves the pods'
// network. The reverse path filter is strict. Node i is 198.18.0.1i and its pods are
// 10.1.i.1 and 10.1.i.2, with IPv6 alike.
type world struct {
	t      *testing.T
	nodes  [3]nstest.Space
	pods   [3][2]nstest.Space
	macs   [3]net.HardwareAddr
	router nstest.Space
	kernel [3]*Kernel
}

const (
	host4, host6 = "198.18.1.100", "fd98:18:1::100"
	vip4, vip6   = "198.18.0.200", "fd98:18::200"
	port         = "7000"
	within       = 30 * time.Second // for what must come
)

func node4(i int) string     { return fmt.Sprintf("198.18.0.1%d", i) }
func node6(i int) string     { return fmt.Sprintf("fd98:18::1%d", i) }
func pod4(i, pod int) string { return fmt.Sprintf("10.1.%d.%d", i, pod+1) }
func pod6(i, pod int) string { return fmt.Sprintf("fd98:10:%d::%d", i, pod+1) }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, router: nstest.New(t, "router")}
	lan := nstest.New(t, "lan")
	lan.Run(t, "ip", "link", "add", "br0", "type", "bridge")
	lan.Run(t, "ip", "link", "set", "br0", "up")
	w.join(lan, w.router, "router", "198.18.0.254/24", "fd98:18::254/64")
	for _, a := range []string{host4 + "/32", host6 + "/128"} {
		w.router.Run(t, "ip", "addr", "add", a, "dev", "lo", "nodad")
	}
	for i := range w.nodes {
		w.addNode(lan, i)
	}
	for i := range w.nodes {
		for j := range w.nodes {
			if i != j {
				w.nodes[i].Run(t, "ip", "route", "add", fmt.Sprintf("10.1.%d.0/24", j), "via", node4(j))
				w.nodes[i].Run(t, "ip", "route", "add", fmt.Sprintf("fd98:10:%d::/64", j), "via", node6(j))
			}
		}
	}
	w.serve()
	w.owner(0)
	return w
}

// join gives a namespace a link eth0 to the LAN.
func (w *world) join(lan, s nstest.Space, port string, addrs ...string) {
	w.t.Helper()
	lan.Run(w.t, "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", s.Name)
	lan.Run(w.t, "ip", "link", "set", port, "up", "master", "br0")
	for _, a := range addrs {
		s.Run(w.t, "ip", "addr", "add", a, "dev", "eth0", "nodad")
	}
	s.Run(w.t, "ip", "link", "set", "eth0", "up")
}

func (w *world) addNode(lan nstest.Space, i int) {
	w.t.Helper()
	n := nstest.New(w.t, fmt.Sprintf("n%d", i))
	w.nodes[i], w.kernel[i] = n, New(int(n.Handle), nftables.DefaultMark)
	w.join(lan, n, fmt.Sprintf("n%d", i), node4(i)+"/24", node6(i)+"/64")
	link, err := n.Netlink(w.t).LinkByName("eth0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.macs[i] = link.Attrs().HardwareAddr
	n.Run(w.t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.eth0.rp_filter=1")
	n.Run(w.t, "ip", "route", "add", "default", "via", "198.18.0.254")
	n.Run(w.t, "ip", "route", "add", "default", "via", "fd98:18::254")
	n.Pipe(w.t, `table ip cni { chain c { type nat hook postrouting priority 100; ip saddr 10.1.0.0/16 ip daddr != 10.1.0.0/16 masquerade; }; }
table ip6 cni { chain c { type nat hook postrouting priority 100; ip6 saddr fd98:10::/32 ip6 daddr != fd98:10::/32 masquerade; }; }`, "nft", "-f", "-")
	for pod := range w.pods[i] {
		w.addPod(i, pod)
	}
}

func (w *world) addPod(i, pod int) {
	w.t.Helper()
	s := nstest.New(w.t, fmt.Sprintf("p%d%d", i, pod))
	w.pods[i][pod] = s
	link := fmt.Sprintf("veth%d", pod)
	w.nodes[i].Run(w.t, "ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", s.Name)
	w.nodes[i].Run(w.t, "ip", "addr", "add", fmt.Sprintf("169.254.1.%d/32", pod+1), "dev", link)
	w.nodes[i].Run(w.t, "ip", "addr", "add", "fe80::1/64", "dev", link, "nodad")
	w.nodes[i].Run(w.t, "ip", "link", "set", link, "up")
	w.nodes[i].Run(w.t, "ip", "route", "add", pod4(i, pod), "dev", link)
	w.nodes[i].Run(w.t, "ip", "route", "add", pod6(i, pod), "dev", link)
	s.Run(w.t, "ip", "addr", "add", pod4(i, pod)+"/32", "dev", "eth0")
	s.Run(w.t, "ip", "addr", "add", pod6(i, pod)+"/128", "dev", "eth0", "nodad")
	s.Run(w.t, "ip", "link", "set", "eth0", "up")
	gateway := fmt.Sprintf("169.254.1.%d", pod+1)
	s.Run(w.t, "ip", "route", "add", gateway, "dev", "eth0")
	s.Run(w.t, "ip", "route", "add", "default", "via", gateway)
	s.Run(w.t, "ip", "route", "add", "default", "via", "fe80::1", "dev", "eth0")
}

// serve answers each line, and each datagram, with the address of its sender.
func (w *world) serve() {
	w.t.Helper()
	w.router.Run(w.t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	w.router.Do(w.t, func() error {
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		w.t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer func() { _ = c.Close() }()
					b := make([]byte, 1)
					for {
						if _, err := io.ReadFull(c, b); err != nil {
							return
						}
						_, _ = fmt.Fprintln(c, c.RemoteAddr())
					}
				}()
			}
		}()
		for _, at := range []string{host4, "[" + host6 + "]"} {
			u, err := net.ListenPacket("udp", at+":"+port)
			if err != nil {
				return err
			}
			w.t.Cleanup(func() { _ = u.Close() })
			go func() {
				b := make([]byte, 100)
				for {
					_, from, err := u.ReadFrom(b)
					if err != nil {
						return
					}
					_, _ = u.WriteTo([]byte(from.String()), from)
				}
			}()
		}
		return nil
	})
}

// owner has the router send packets to the VIPs to node i.
func (w *world) owner(i int) {
	w.t.Helper()
	for _, vip := range []string{vip4, vip6} {
		w.router.Run(w.t, "ip", "neigh", "replace", vip, "lladdr", w.macs[i].String(), "dev", "eth0")
	}
}

// state is what node i does while owner is the owner, -1: none. The first pod of each
// node is of the Service.
func (w *world) state(i, owner int, ports egress.Ports) (s egress.State) {
	w.t.Helper()
	for j := range w.nodes {
		for _, at := range []struct{ pod, vip, gateway string }{{pod4(j, 0), vip4, node4(max(owner, 0))}, {pod6(j, 0), vip6, node6(max(owner, 0))}} {
			p := egress.Pod{Addr: netip.MustParseAddr(at.pod), Service: snapshot.Ref{Namespace: "default", Name: "web"}, Opens: true}
			switch {
			case owner == i:
				p.Way, p.VIP, p.Ports = egress.Own, netip.MustParseAddr(at.vip), ports
			case owner >= 0 && i == j:
				link, err := w.nodes[i].Netlink(w.t).LinkByName("eth0")
				if err != nil {
					w.t.Fatal(err)
				}
				p.Way, p.VIP = egress.Via, netip.MustParseAddr(at.vip)
				p.Gateway, p.Link = netip.MustParseAddr(at.gateway), link.Attrs().Index
			}
			s.Pods = append(s.Pods, p)
		}
	}
	for _, in := range []string{"10.1.0.0/16", "198.18.0.0/24", "fd98:10::/32", "fd98:18::/64", "fe80::/10", "224.0.0.0/3", "ff00::/8"} {
		s.Inside = append(s.Inside, netip.MustParsePrefix(in))
	}
	return s
}

var upper = egress.Ports{First: 32768, Last: 65535}

// sync has all nodes know the owner.
func (w *world) sync(owner int, ports egress.Ports) {
	w.t.Helper()
	for i, k := range w.kernel {
		if err := k.Sync(w.state(i, owner, ports)); err != nil {
			w.t.Fatalf("node %d: %v", i, err)
		}
	}
}

// dial connects to the host from a pod, from a port unless that is 0.
func (w *world) dial(from nstest.Space, network, host string, local int, timeout time.Duration) (c net.Conn, err error) {
	w.t.Helper()
	d := net.Dialer{Timeout: timeout, Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if local == 0 {
			return nil
		}
		_ = raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) })
		return err
	}}
	if local != 0 {
		d.LocalAddr = &net.TCPAddr{Port: local}
		if network == "udp" {
			d.LocalAddr = &net.UDPAddr{Port: local}
		}
	}
	in := from.In(func() error {
		c, err = d.DialContext(w.t.Context(), network, net.JoinHostPort(host, port))
		return nil
	})
	if in != nil {
		w.t.Fatal(in)
	}
	if err == nil {
		w.t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

// ask returns who the host says that sends on c.
func ask(c net.Conn, timeout time.Duration) (netip.AddrPort, error) {
	_ = c.SetDeadline(time.Now().Add(timeout))
	if _, err := c.Write([]byte("?")); err != nil {
		return netip.AddrPort{}, err
	}
	b := make([]byte, 100)
	n, err := c.Read(b)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.ParseAddrPort(strings.TrimSpace(string(b[:n])))
}

// sees fails unless the host sees a connection from a pod come from want. It returns the
// connection and its port there.
func (w *world) sees(from nstest.Space, network, host string, local int, want string) (net.Conn, uint16) {
	w.t.Helper()
	c, err := w.dial(from, network, host, local, within)
	if err != nil {
		w.t.Fatalf("%s to %s from %s: %v", network, host, from.Name, err)
	}
	for until := time.Now().Add(within); ; {
		got, err := ask(c, within/10)
		if err != nil && network == "udp" && time.Now().Before(until) {
			continue // a datagram may be lost
		}
		if err != nil {
			w.t.Fatalf("%s to %s: %v", network, host, err)
		}
		if got.Addr().String() != want {
			w.t.Errorf("%s to %s: the host sees %s, want %s", network, host, got, want)
		}
		return c, got.Port()
	}
}
