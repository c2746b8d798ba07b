package netlink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// lab is a node with two pods of its own, a pod behind it that counts as
// another node's, and a client outside:
//
//	client .2/.3 -- 198.18.0.0/24 -- node -- 198.18.1.2 podA, 198.18.1.3 podB
//	                                   \---- 198.18.2.2 remote
//
// and the same in fd98::/16. The pods answer on port 8080 over TCP and UDP with
// their name and the address that they see, filled up to the length of what was
// asked. On port 8081 they put "new-" before their name.
type lab struct {
	client, node, podA, podB, remote space
	engine                           *Engine
}

// plan6 and plan4 are the lab's addresses in one family.
type addressing struct {
	family                             snapshot.Family
	client, client2, node              netip.Addr
	podA, podB, remote                 netip.Addr
	nodeOnA, nodeOnB, nodeOnRemote     netip.Addr
	vip, clusterIP, other, unallocated netip.Addr
	pods, serviceCIDR                  netip.Prefix
}

func addressesOf(f snapshot.Family) addressing {
	prefix, a := "198.18.%d.%d", addressing{family: f, pods: netip.MustParsePrefix("198.18.1.0/24"),
		serviceCIDR: netip.MustParsePrefix("198.18.96.0/24")}
	if f == snapshot.IPv6 {
		prefix = "fd98:0:%d::%d"
		a.pods, a.serviceCIDR = netip.MustParsePrefix("fd98:0:1::/64"), netip.MustParsePrefix("fd98:0:96::/112")
	}
	at := func(net, host int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf(prefix, net, host)) }
	a.node, a.client, a.client2 = at(0, 1), at(0, 2), at(0, 3)
	a.podA, a.podB, a.remote = at(1, 2), at(1, 3), at(2, 2)
	a.nodeOnA, a.nodeOnB, a.nodeOnRemote = at(11, 1), at(12, 1), at(13, 1)
	a.vip, a.clusterIP, a.other, a.unallocated = at(200, 1), at(96, 1), at(96, 2), at(96, 99)
	return a
}

func (a addressing) ep(addr netip.Addr) netip.AddrPort { return netip.AddrPortFrom(addr, 8080) }

var bothFamilies = []snapshot.Family{snapshot.IPv4, snapshot.IPv6}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{client: newSpace(t, "client"), node: newSpace(t, "node"), podA: newSpace(t, "podA"),
		podB: newSpace(t, "podB"), remote: newSpace(t, "remote")}
	for _, s := range []space{l.client, l.node, l.podA, l.podB, l.remote} {
		s.prepare(t)
	}
	for _, f := range bothFamilies {
		a := addressesOf(f)
		l.wire(t, l.client, "client", a.node, a.client, a.client2)
		l.wire(t, l.podA, "podA", a.nodeOnA, a.podA)
		l.wire(t, l.podB, "podB", a.nodeOnB, a.podB)
		l.wire(t, l.remote, "remote", a.nodeOnRemote, a.remote)
	}
	for name, s := range map[string]space{"podA": l.podA, "podB": l.podB, "remote": l.remote} {
		serve(t, s, ":8080", name)
		serve(t, s, ":8081", "new-"+name)
	}
	l.engine = l.node.engine(t)
	return l
}

// prepare sets the namespace's sysctls and its loopback.
func (s space) prepare(t testing.TB) {
	s.Do(t, func() error {
		for name, value := range map[string]string{
			"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1",
			"ipv6/conf/default/accept_dad": "0", "ipv6/conf/all/accept_dad": "0",
			"ipv4/icmp_ratelimit": "0", "ipv6/icmp/ratelimit": "0", "ipv4/ping_group_range": "0 2147483647",
		} {
			if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644); err != nil {
				return err
			}
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
}

// wire connects a namespace with the node. The node has nodeAddr on the link,
// the namespace addrs, and its default route is the node.
func (l *lab) wire(t testing.TB, s space, name string, nodeAddr netip.Addr, addrs ...netip.Addr) {
	t.Helper()
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("wire %s: %v", name, err)
		}
	}
	l.node.Do(t, func() error {
		if _, err := netlink.LinkByName(name); err == nil {
			return nil
		}
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0",
			PeerNamespace: netlink.NsFd(int(s.Handle))})
	})
	setUp := func(name string, gateway netip.Addr, own []netip.Addr, routes []netip.Addr) func() error {
		return func() error {
			link, err := netlink.LinkByName(name)
			fail(err)
			fail(netlink.LinkSetUp(link))
			for _, a := range own {
				fail(netlink.AddrAdd(link, &netlink.Addr{IPNet: host128(a), Flags: unix.IFA_F_NODAD}))
			}
			for _, r := range routes {
				fail(netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: host128(r), Src: own[0].AsSlice(), Scope: netlink.SCOPE_LINK}))
			}
			if gateway.IsValid() {
				fail(netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice(), Src: own[0].AsSlice()}))
			}
			return nil
		}
	}
	var upstream netip.Addr
	if name == "client" {
		upstream = addrs[0] // stands for the router: a node has a default route
	}
	l.node.Do(t, setUp(name, upstream, []netip.Addr{nodeAddr}, addrs))
	s.Do(t, setUp("eth0", nodeAddr, addrs, []netip.Addr{nodeAddr}))
}

func host128(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

// serve answers every line (TCP) and datagram (UDP) on a port with name and the
// peer's address, as long as the question at least.
func serve(t testing.TB, s space, on, name string) {
	t.Helper()
	var l net.Listener
	var u net.PacketConn
	s.Do(t, func() (err error) {
		if l, err = net.Listen("tcp", on); err != nil {
			return err
		}
		u, err = net.ListenPacket("udp", on)
		return err
	})
	t.Cleanup(func() { l.Close(); u.Close() })
	answer := func(peer net.Addr, length int) []byte {
		text := name + " " + netip.MustParseAddrPort(peer.String()).Addr().Unmap().String()
		return []byte(text + strings.Repeat(" ", max(0, length-len(text)-1)) + "\n")
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			// A client that died without a word would leave it open.
			context.AfterFunc(t.Context(), func() { c.Close() })
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					c.Write(answer(c.RemoteAddr(), len(line)))
				}
			}()
		}
	}()
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, peer, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			u.WriteTo(answer(peer, n), peer)
		}
	}()
}

// patient is how long an answer may take where one must come, brief how long
// to listen where none may come.
const (
	patient = 4 * time.Second
	brief   = 300 * time.Millisecond
)

// ports are the source ports of UDP clients, each used once: the kernel would
// take a port that comes again for the flow that it remembers.
var ports atomic.Uint32

// dial opens a connection from inside the namespace; src may be zero.
func (s space) dial(network string, to netip.AddrPort, src netip.AddrPort, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout}
	switch {
	case network == "udp":
		if src.Port() == 0 {
			src = netip.AddrPortFrom(src.Addr(), uint16(10000+ports.Add(1)%50000))
		}
		d.LocalAddr = net.UDPAddrFromAddrPort(src)
	case src.IsValid():
		d.LocalAddr = net.TCPAddrFromAddrPort(src)
	}
	var c net.Conn
	err := s.In(func() (err error) {
		c, err = d.Dial(network, to.String())
		return err
	})
	return c, err
}

// say sends a line on an open connection and returns the answer.
func say(c net.Conn, timeout time.Duration) (string, error) {
	line, err := sayLine(c, "hello\n", timeout)
	return strings.TrimSpace(line), err
}

// sayLine is say for a line of any length, with the answer as it came.
func sayLine(c net.Conn, line string, timeout time.Duration) (string, error) {
	c.SetDeadline(time.Now().Add(timeout))
	if _, err := io.WriteString(c, line); err != nil {
		return "", err
	}
	return bufio.NewReaderSize(c, 1<<16).ReadString('\n')
}

// outcome opens a connection, asks once and returns the outcome: "podA
// 198.18.0.2" (who answered, and whom it saw), "refused" or "nothing".
func (s space) outcome(network string, to, src netip.AddrPort, timeout time.Duration) string {
	c, err := s.dial(network, to, src, timeout)
	answer := ""
	if err == nil {
		defer c.Close()
		answer, err = say(c, timeout)
	}
	var ne net.Error
	switch {
	case err == nil:
		return answer
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EPERM):
		return "refused" // EPERM: our own node's rule refused or dropped a datagram of our own
	case errors.As(err, &ne) && ne.Timeout():
		return "nothing"
	}
	return err.Error()
}

// ask wants an answer.
func (s space) ask(network string, to netip.AddrPort) string {
	return s.outcome(network, to, netip.AddrPort{}, patient)
}

// wants asks until every answer of want has come, and fails on any other.
func (s space) wants(t *testing.T, network string, to netip.AddrPort, want ...string) {
	t.Helper()
	missing := map[string]bool{}
	for _, w := range want {
		missing[w] = true
	}
	for range 200 {
		got := s.ask(network, to)
		if _, ok := missing[got]; !ok {
			t.Errorf("%s %s: got %q, want one of %q", network, to, got, want)
			return
		}
		missing[got] = false
		left := 0
		for _, m := range missing {
			if m {
				left++
			}
		}
		if left == 0 {
			return
		}
	}
	t.Errorf("%s %s: never got all of %q", network, to, want)
}

// silent wants no answer at all.
func (s space) silent(t *testing.T, network string, to netip.AddrPort) {
	t.Helper()
	if got := s.outcome(network, to, netip.AddrPort{}, brief); got != "nothing" {
		t.Errorf("%s %s: got %q, want nothing", network, to, got)
	}
}

// table makes a Table of frontends with the lab's addresses.
func (a addressing) table(frontends ...*proxy.Frontend) *proxy.Table {
	slices.SortFunc(frontends, func(f, g *proxy.Frontend) int { return f.Key.Compare(g.Key) })
	return &proxy.Table{
		Frontends:     frontends,
		NodePortAddrs: []netip.Addr{a.node},
		ServiceCIDRs:  []netip.Prefix{a.serviceCIDR},
		LocalPods:     []netip.Prefix{a.pods},
		Hairpin: []proxy.Target{
			{Protocol: snapshot.TCP, Addr: a.ep(a.podA)}, {Protocol: snapshot.TCP, Addr: a.ep(a.podB)},
			{Protocol: snapshot.UDP, Addr: a.ep(a.podA)}, {Protocol: snapshot.UDP, Addr: a.ep(a.podB)},
		},
	}
}

// front makes a Frontend on port 80 (30080 for a node port).
func (a addressing) front(kind proxy.Kind, network string, endpoints ...netip.Addr) *proxy.Frontend {
	f := &proxy.Frontend{Key: proxy.Key{Kind: kind, Family: a.family, Protocol: snapshot.TCP, Port: 80}}
	switch network {
	case "udp":
		f.Protocol = snapshot.UDP
	case "sctp":
		f.Protocol = snapshot.SCTP
	}
	switch kind {
	case proxy.ClusterIP:
		f.Addr = a.clusterIP
	case proxy.NodePort:
		f.Port = 30080
	default:
		f.Addr = a.vip
	}
	for _, e := range endpoints {
		f.Cluster = append(f.Cluster, a.ep(e))
	}
	if len(endpoints) == 0 {
		f.Empty = proxy.Reject
	}
	return f
}

// address is where a client reaches f.
func (a addressing) address(f *proxy.Frontend) netip.AddrPort {
	if f.Kind == proxy.NodePort {
		return netip.AddrPortFrom(a.node, f.Port)
	}
	return netip.AddrPortFrom(f.Addr, f.Port)
}

// each runs a test for both families and protocols.
func each(t *testing.T, test func(t *testing.T, a addressing, network string)) {
	for _, f := range bothFamilies {
		for _, network := range []string{"tcp", "udp"} {
			t.Run(fmt.Sprintf("%s/%s", f, network), func(t *testing.T) { test(t, addressesOf(f), network) })
		}
	}
}
