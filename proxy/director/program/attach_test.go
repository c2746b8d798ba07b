package program

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// segment connects the lab's nodes and a client by a bridge. The VIPs are addresses of
// node b, and the client has routes to them by node a.
func (l *lab) segment(t *testing.T) (client nstest.Space) {
	t.Helper()
	bridge, client := nstest.New(t, "bridge"), nstest.New(t, "client")
	bridge.Pipe(t, "link add lan type bridge\nlink set lan up\n", "ip", "-batch", "-")
	join := func(s nstest.Space, i int, ip4, ip6 string) {
		s.Run(t, "sysctl", "-qw", "net.ipv6.conf.lan.accept_dad=0") // an address that is not checked yet asks for no neighbour
		s.Run(t, "ip", "link", "set", "far", "netns", bridge.Name)
		bridge.Pipe(t, fmt.Sprintf("link set far name port%d\nlink set port%[1]d up master lan\n", i), "ip", "-batch", "-")
		s.Pipe(t, fmt.Sprintf("addr add %s/24 dev lan\naddr add %s/64 dev lan nodad\nlink set lan up\n", ip4, ip6), "ip", "-batch", "-")
	}
	for i, n := range l.nodes {
		n.bridge, n.port = bridge, fmt.Sprintf("port%d", i)
		join(n.space, i, n.state.Nodes[i].IPv4.String(), n.state.Nodes[i].IPv6.String())
		n.space.Pipe(t, `table inet t { chain c { type filter hook prerouting priority -110; ct state invalid drop; }; }`, "nft", "-f", "-")
	}
	client.Run(t, "ip", "link", "add", "lan", "type", "veth", "peer", "name", "far")
	join(client, len(l.nodes), "198.18.0.9", "fd98::9")
	for _, f := range families {
		bits := f.vip.Addr().BitLen()
		l.node("b").space.Run(t, "ip", "addr", "add", fmt.Sprintf("%s/%d", f.vip.Addr(), bits), "dev", "lo")
		via := l.nodes[0].state.Nodes[0].IPv4
		if f.vip.Addr().Is6() {
			via = l.nodes[0].state.Nodes[0].IPv6
		}
		client.Run(t, "ip", "route", "add", fmt.Sprintf("%s/%d", f.vip.Addr(), bits), "via", via.String())
	}
	return client
}

// echo answers each line on a port of the VIPs, in node b.
func (l *lab) echo(t *testing.T, vip netip.AddrPort) {
	t.Helper()
	var listener net.Listener
	l.node("b").space.Do(t, func() (err error) {
		listener, err = net.Listen("tcp", vip.String())
		return err
	})
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in := bufio.NewScanner(c); in.Scan(); {
					fmt.Fprintf(c, "%s %s\n", in.Text(), c.RemoteAddr())
				}
			}()
		}
	}()
}

func ask(t *testing.T, c net.Conn, line string) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(c, line)
	got, err := bufio.NewReader(c).ReadString('\n')
	if want := fmt.Sprintf("%s %s\n", line, c.LocalAddr()); got != want {
		t.Errorf("%q, not %q: %v", got, want, err)
	}
}

// A connection of a real client through two nodes keeps the client's address. It goes on
// while the next agent replaces the program, and ends for good with Remove.
func TestAttach(t *testing.T) {
	nstest.NeedRoot(t)
	hooks := []string{"clsact"}
	if hasTCX() {
		hooks = append(hooks, "tcx")
	}
	for _, hook := range hooks {
		t.Run(hook, func(t *testing.T) {
			l := newLab(t, Options{}, "a", "b")
			client := l.segment(t)
			for _, n := range l.nodes {
				n.p.ability.TCX = hook == "tcx"
				for _, f := range families {
					n.state.Frontends = append(n.state.Frontends, Frontend{VIP: f.vip, Proto: tcp, Slots: l.slots("b a"), HasEndpoints: n.name == "b"})
				}
				n.sync(t)
				n.attach(t)
			}
			conns := l.connect(t, client)
			for _, n := range l.nodes {
				n.restart(t)
				n.p.ability.TCX = hook == "tcx"
				n.sync(t)
				n.attach(t)
			}
			for _, c := range conns {
				ask(t, c, "again")
			}
			l.checkAttached(t)
		})
	}
}

func (l *lab) connect(t *testing.T, client nstest.Space) (conns []net.Conn) {
	t.Helper()
	for _, f := range families {
		l.echo(t, f.vip)
	}
	return l.dial(t, client)
}

// dial opens a connection to each VIP.
func (l *lab) dial(t *testing.T, client nstest.Space) (conns []net.Conn) {
	t.Helper()
	for _, f := range families {
		client.Do(t, func() error {
			c, err := net.DialTimeout("tcp", f.vip.String(), 20*time.Second)
			conns = append(conns, c)
			return err
		})
		t.Cleanup(func() { conns[len(conns)-1].Close() })
		ask(t, conns[len(conns)-1], "hello")
	}
	return conns
}

// checkAttached checks the counters, that one program is there, and that Remove leaves
// none.
func (l *lab) checkAttached(t *testing.T) {
	t.Helper()
	a, b := l.node("a"), l.node("b")
	if c := a.counters(t); c.Directed == 0 || c.Nodes["b"].Opened < 2 || c.Diverted != 0 {
		t.Errorf("a: %+v", c)
	}
	if c := b.counters(t); c.Hops[1] == 0 || c.Reset != 0 {
		t.Errorf("b: %+v", c)
	}
	for _, n := range l.nodes {
		for _, want := range []int{1, 0} {
			n.space.Do(t, func() error {
				got, err := Remove(n.p.opt.Pins)
				if got != want {
					t.Errorf("%s: %d programs, not %d", n.name, got, want)
				}
				return err
			})
		}
		if _, err := os.Lstat(n.p.opt.Pins); !os.IsNotExist(err) {
			t.Errorf("%s: the pins are there: %v", n.name, err)
		}
		if out := n.space.Run(t, "tc", "qdisc", "show", "dev", "lan", "clsact"); out != "" {
			t.Errorf("%s: %s", n.name, out)
		}
	}
}

func (n *node) attach(t *testing.T) {
	t.Helper()
	n.space.Do(t, func() error { return n.p.Attach([]int{n.link}) })
}

// On a trunk a frame with a VLAN tag looks like one without: the kernel takes the tag out
// before the program sees it. The frame is in another network.
func TestTrunk(t *testing.T) {
	l := newLab(t, Options{}, "a", "b")
	a := l.node("a")
	for _, f := range families {
		l.directed(t, f, "b a", "b")
		a.attach(t)
		before := a.counters(t).Directed
		plain := f.packet(tcp, syn)
		a.receive(t, with(plain, func(p *packet) { p.inVLAN = true }), plain)
		nstest.Eventually(t, "the plain frame to be passed on", func() bool { return a.counters(t).Directed > before })
		if n := a.counters(t).Directed - before; n != 1 {
			t.Errorf("%s: %d frames", f.name, n)
		}
	}
}

// receive has packets come in by the node's link, one after the other.
func (n *node) receive(t *testing.T, packets ...packet) {
	t.Helper()
	frames := make([][]byte, len(packets))
	for i, p := range packets {
		frames[i] = p.bytes(outsider, n.mac)
	}
	n.receiveFrames(t, frames...)
}

// receiveFrames is receive for frames. The far end of the link is in the node's namespace, or
// in that of the segment.
func (n *node) receiveFrames(t *testing.T, frames ...[]byte) {
	t.Helper()
	space, name := n.space, "far"
	if n.port != "" {
		space, name = n.bridge, n.port
	} else {
		n.space.Run(t, "ip", "link", "set", "lan", "up")
		n.space.Run(t, "ip", "link", "set", "far", "up")
	}
	space.Do(t, func() error {
		far, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, f := range frames {
			if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: far.Attrs().Index}); err != nil {
				return err
			}
		}
		return nil
	})
}

// A link that is no longer wanted has no program, and maps of other versions go.
func TestDetach(t *testing.T) {
	l := newLab(t, Options{}, "a")
	a := l.nodes[0]
	other := filepath.Join(a.p.opt.Pins, "maps-0")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	a.sync(t)
	a.attach(t)
	if _, err := os.Lstat(other); !os.IsNotExist(err) {
		t.Errorf("maps of another version: %v", err)
	}
	var far netlink.Link
	a.space.Do(t, func() (err error) {
		if far, err = netlink.LinkByName("far"); err != nil {
			return err
		}
		return a.p.Attach([]int{far.Attrs().Index})
	})
	a.space.Do(t, func() error {
		n, err := detach(a.p.opt.Pins, func(index int) bool { return index == a.link })
		if n != 0 {
			t.Error("it is still attached to the first link")
		}
		return err
	})
	a.space.Do(t, func() error {
		if err := a.p.Attach([]int{far.Attrs().Index, 4711, 1 << 20}); err == nil {
			t.Error("attached to links that do not exist")
		}
		n, err := detach(a.p.opt.Pins, func(int) bool { return false })
		if n != 0 {
			t.Error("it is no longer attached to the link that exists")
		}
		return err
	})
	a.space.Run(t, "ip", "link", "del", "far")
	a.space.Do(t, func() error { return a.p.Attach(nil) })
	if found, err := filepath.Glob(filepath.Join(a.p.opt.Pins, linkPin+"*")); err != nil || len(found) > 0 {
		t.Error(found, err)
	}
}
