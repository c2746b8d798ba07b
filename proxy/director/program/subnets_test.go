package program

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// patience is for what must come, at last.
const patience = time.Minute

// routed has a router between the nodes, each of which is alone in its subnet, and a client.
// The VIPs are addresses of node b.
func (l *lab) routed(t *testing.T) (router, client nstest.Space) {
	t.Helper()
	router, client = nstest.New(t, "router"), nstest.New(t, "client")
	router.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0")
	join := func(s nstest.Space, i int, v4, v6 netip.Addr) {
		s.Run(t, "sysctl", "-qw", "net.ipv6.conf.lan.accept_dad=0")
		s.Run(t, "ip", "link", "set", "far", "netns", router.Name)
		router.Pipe(t, fmt.Sprintf(`link set far name port%[1]d
link set port%[1]d up
addr add 198.18.1.%[1]d/32 dev port%[1]d
addr add fd98:1::%[1]d/128 dev port%[1]d nodad
route add %[2]s dev port%[1]d
route add %[3]s dev port%[1]d
`, i, v4, v6), "ip", "-batch", "-")
		s.Pipe(t, fmt.Sprintf(`link set lo up
link set lan up
addr add %[2]s/32 dev lan
addr add %[3]s/128 dev lan nodad
route add 198.18.1.%[1]d dev lan
route add fd98:1::%[1]d dev lan
route add default via 198.18.1.%[1]d
route add default via fd98:1::%[1]d
`, i, v4, v6), "ip", "-batch", "-")
	}
	for i, n := range l.nodes {
		join(n.space, i, addr4(i), addr6(i))
		n.space.Pipe(t, `table inet t { chain c { type filter hook prerouting priority -110; ct state invalid drop; }; }`, "nft", "-f", "-")
	}
	client.Run(t, "ip", "link", "add", "lan", "type", "veth", "peer", "name", "far")
	join(client, 9, netip.MustParseAddr("198.18.9.9"), netip.MustParseAddr("fd98:9::9"))
	for _, f := range families {
		l.node("b").space.Run(t, "ip", "addr", "add", fmt.Sprintf("%s/%d", f.vip.Addr(), f.vip.Addr().BitLen()), "dev", "lo")
	}
	return router, client
}

// prefer gives all nodes one chain for both VIPs, over TCP and UDP. Node b serves them.
func (l *lab) prefer(t *testing.T, chain string) {
	t.Helper()
	for _, n := range l.nodes {
		n.state.Frontends = nil
		for _, f := range families {
			for _, proto := range []uint8{tcp, udp} {
				n.state.Frontends = append(n.state.Frontends, Frontend{VIP: f.vip, Proto: proto, Slots: l.slots(chain), HasEndpoints: n.name == "b"})
			}
		}
		n.sync(t)
	}
}

// announce has the router send what is for the VIPs to a node.
func (l *lab) announce(t *testing.T, router nstest.Space, name string) {
	t.Helper()
	i := l.index(l.node(name))
	router.Pipe(t, fmt.Sprintf("route replace %s via %s dev port%d onlink\nroute replace %s via %s dev port%[3]d onlink\n",
		families[0].vip.Addr(), addr4(i), i, families[1].vip.Addr(), addr6(i)), "ip", "-batch", "-")
}

// upload is a server on node b that says how many bytes it got of each connection, of whom, and
// sends 100,000. Of datagrams it counts the bytes.
func (l *lab) upload(t *testing.T, vip netip.AddrPort) (datagrams *atomic.Int64) {
	t.Helper()
	datagrams = &atomic.Int64{}
	var tcp net.Listener
	var udp net.PacketConn
	l.node("b").space.Do(t, func() (err error) {
		if tcp, err = net.Listen("tcp", vip.String()); err != nil {
			return err
		}
		udp, err = net.ListenPacket("udp", vip.String())
		return err
	})
	t.Cleanup(func() { tcp.Close(); udp.Close() })
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				n, _ := io.Copy(io.Discard, c)
				fmt.Fprintf(c, "%d %s\n", n, c.RemoteAddr())
				_, _ = c.Write(make([]byte, 100_000))
			}()
		}
	}()
	go func() {
		for b := make([]byte, 65536); ; {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			datagrams.Add(int64(n))
			if string(b[:n]) == "large" {
				_, _ = udp.WriteTo(make([]byte, 60_000), from) // which comes in fragments, straight to the client
			}
		}
	}()
	return datagrams
}

// exchange sends size bytes to a VIP over TCP, with a pause in which between is called, and
// wants 100,000 back from a server that saw the client.
func exchange(t *testing.T, client nstest.Space, vip netip.AddrPort, size int, between func()) {
	t.Helper()
	var c net.Conn
	client.Do(t, func() (err error) {
		c, err = net.DialTimeout("tcp", vip.String(), patience)
		return err
	})
	defer c.Close()
	send := func(n int) {
		_ = c.SetDeadline(time.Now().Add(patience)) // not for what a busy machine takes to change maps
		if _, err := c.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	send(size / 2)
	between()
	send(size - size/2)
	_ = c.(*net.TCPConn).CloseWrite()
	in := bufio.NewReader(c)
	line, err := in.ReadString('\n')
	if want := fmt.Sprintf("%d %s\n", size, c.LocalAddr()); line != want {
		t.Fatalf("%q, not %q: %v", line, want, err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if n, err := io.Copy(io.Discard, in); n != 100_000 {
		t.Errorf("%d bytes came back: %v", n, err)
	}
}

// datagrams sends 60 kB to a VIP at once, which the kernel makes datagrams of, and then asks for
// as much in one. It returns how many bytes came before that question.
func datagrams(t *testing.T, client nstest.Space, vip netip.AddrPort, got *atomic.Int64) (came int64) {
	t.Helper()
	var c net.Conn
	client.Do(t, func() (err error) {
		c, err = net.Dial("udp", vip.String())
		return err
	})
	defer c.Close()
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err == nil {
		err = errors.Join(err, raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, 1200)
		}))
	}
	if err != nil {
		t.Fatal(err)
	}
	before := got.Load()
	if _, err := c.Write(make([]byte, atOnce)); err != nil {
		t.Fatal(err)
	}
	const question = "large"
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, question); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 65536)); n != 60_000 {
		t.Errorf("%d bytes came back: %v", n, err)
	}
	return got.Load() - before - int64(len(question))
}

// atOnce is how many bytes datagrams has the kernel make datagrams of.
const atOnce = 60_000

// tunnels is what a link can do that splits packets behind a header of UDP.
const tunnels = "tx-udp_tnl-segmentation"

// Real connections get to a node of another subnet, and their answers straight back: large
// segments and datagrams that the kernel puts together and splits, on links of 1,500 bytes and
// with one of 1,400 at the other end: routers tell owners. They outlive a change of the owner.
func TestSubnets(t *testing.T) {
	nstest.NeedRoot(t)
	for _, c := range []struct {
		name string
		mtu  int
		// whole: nodes' links take what the kernel put together behind our header, as links
		// between containers do. A network's do not.
		whole bool
		// frames: nor does the router send them what clients' kernels put together.
		frames bool
		gro    bool // what comes in frames is put together
	}{
		{name: "split", mtu: 1500}, {name: "split, narrow", mtu: 1400}, {name: "whole", mtu: 1500, whole: true}, {name: "whole, narrow", mtu: 1400, whole: true},
		{name: "frames with GRO", mtu: 1500, frames: true, gro: true}, {name: "frames without GRO", mtu: 1500, frames: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, Options{}, "a", "b", "c")
			l.needOracle(t)
			l.move(t, "abc")
			router, client := l.routed(t)
			l.prefer(t, "b c a")
			for i, n := range l.nodes {
				n.attach(t)
				n.space.Offload(t, "lan", "rx-gro", c.gro)
				n.space.Offload(t, "lan", tunnels, c.whole)
				for _, feature := range []string{"tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-udp-segmentation"} {
					router.Offload(t, fmt.Sprintf("port%d", i), feature, !c.frames)
				}
			}
			router.Run(t, "ip", "link", "set", "port1", "mtu", fmt.Sprint(c.mtu))
			l.node("b").space.Run(t, "ip", "link", "set", "lan", "mtu", fmt.Sprint(c.mtu))
			for _, f := range families {
				got := l.upload(t, f.vip)
				l.announce(t, router, "a")
				for _, change := range []func(){
					func() { l.announce(t, router, "c") }, func() { l.announce(t, router, "a") },
					func() { l.prefer(t, "c b a") }, // which has not got the connection, and passes it on
				} {
					exchange(t, client, f.vip, 1_000_000, change)
				}
				if c := l.node("c").counters(t); c.DivertedTo["b"] == 0 {
					t.Errorf("%s: c passed nothing on: %+v", f.name, c)
				}
				l.prefer(t, "b c a")
				if c.whole {
					// They are lost where the header is taken off. From here on the owner's kernel splits them.
					t.Logf("%s: of %d bytes that go as one packet %d come", f.name, atOnce, datagrams(t, client, f.vip, got))
					l.node("a").space.Offload(t, "lan", tunnels, false)
				}
				if came := datagrams(t, client, f.vip, got); came != atOnce {
					t.Errorf("%s: of %d bytes in datagrams %d came", f.name, atOnce, came)
				}
				l.node("a").space.Offload(t, "lan", tunnels, c.whole)
				if seen := l.node("b").counters(t); seen.Forged > 0 || seen.Hops[1] == 0 {
					t.Errorf("%s, at b: %+v", f.name, seen)
				}
			}
			if told := l.node("a").counters(t).TooBig + l.node("c").counters(t).TooBig; (told > 0) != (c.mtu < 1500) {
				t.Errorf("clients were told %d times that packets are too big", told)
			}
			if out := l.node("b").space.Run(t, "nft", "list", "table", "ip", Table); !strings.Contains(out, "1432") {
				t.Errorf("segments are not lowered:\n%s", out)
			}
		})
	}
}
