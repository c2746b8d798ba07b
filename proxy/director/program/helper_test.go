package program

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy/director"
)

// newAskingLab is three nodes whose nftables looks for connections, and a client, on one
// segment.
func newAskingLab(t *testing.T, opt Options) (l *lab, client nstest.Space) {
	t.Helper()
	opt.AskNftables = true
	l = newLab(t, opt, "a", "b", "c")
	client = l.segment(t)
	l.everywhere(t, "b a c")
	for _, n := range l.nodes {
		n.attach(t)
	}
	return l, client
}

// everywhere gives all nodes one chain for the VIPs. With "@" the primary is new. Node b has
// the endpoints.
func (l *lab) everywhere(t *testing.T, chain string) {
	t.Helper()
	for _, n := range l.nodes {
		n.state.Frontends = nil
		for _, f := range families {
			for _, proto := range []uint8{tcp, udp} {
				slots := l.slots(strings.TrimPrefix(chain, "@"))
				if strings.HasPrefix(chain, "@") {
					slots.Changed = []uint32{uptime(t)}
				}
				n.state.Frontends = append(n.state.Frontends, Frontend{VIP: f.vip, Proto: proto, Slots: slots, HasEndpoints: n.name == "b"})
			}
		}
		n.sync(t)
	}
}

// datagrams opens a flow to each VIP, which node b answers.
func (l *lab) datagrams(t *testing.T, client nstest.Space) (conns []net.Conn) {
	t.Helper()
	for _, f := range families {
		var on net.PacketConn
		l.node("b").space.Do(t, func() (err error) {
			on, err = net.ListenPacket("udp", f.vip.String())
			return err
		})
		t.Cleanup(func() { on.Close() })
		go func() {
			b := make([]byte, 100)
			for {
				n, from, err := on.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = on.WriteTo(fmt.Appendf(nil, "%s %s\n", strings.TrimSpace(string(b[:n])), from), from)
			}
		}()
		client.Do(t, func() error {
			c, err := net.Dial("udp", f.vip.String())
			conns = append(conns, c)
			return err
		})
		t.Cleanup(func() { conns[len(conns)-1].Close() })
		ask(t, conns[len(conns)-1], "hello")
	}
	return conns
}

// packetOf is a packet of a client's connection.
func packetOf(c net.Conn, flags uint8) packet {
	local, remote := netip.MustParseAddrPort(c.LocalAddr().String()), netip.MustParseAddrPort(c.RemoteAddr().String())
	return packet{from: local, to: remote, proto: tcp, flags: flags, ttl: 64}
}

// errorTo is an ICMP error of a router about an answer of the VIP.
func errorTo(p packet, router netip.Addr) packet {
	e := p
	e.about, e.from = p.back(), netip.AddrPortFrom(router, 0)
	return e
}

// A connection is found on the node that has it, wherever its packets come to: nftables passes
// them on as the program would. The client's end of it is as well, and an ICMP error.
func TestAsking(t *testing.T) {
	l, client := newAskingLab(t, Options{})
	b := l.node("b")
	b.space.Pipe(t, `table inet seen { chain c { type filter hook prerouting priority -100;
		ct state related icmp type destination-unreachable counter
		ct state related icmpv6 type packet-too-big counter
	}; }`, "nft", "-f", "-")
	conns, flows := l.connect(t, client), l.datagrams(t, client)
	for _, chain := range []string{"c b a", "@c b a", "@c a b", "a c b"} {
		l.everywhere(t, chain)
		for _, c := range append(conns, flows...) {
			ask(t, c, chain)
		}
	}
	for i, c := range conns {
		l.node("a").receiveWhole(t, errorTo(packetOf(c, ack), families[i].other))
		l.strays(t, c)
		ask(t, c, "after strays")
	}
	nstest.Eventually(t, "both errors to come to the node of the connection", func() bool {
		return strings.Count(b.space.Run(t, "nft", "list", "table", "inet", "seen"), "packets 1 ") == 2
	})
	for _, c := range conns {
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: the other end did not close: %v", c.LocalAddr(), err)
		}
	}
	if n := l.node("a").counters(t); n.Asked == 0 || n.Diverted != 0 {
		t.Errorf("a: %+v", n)
	}
}

// strays sends what has the ports of a connection and is not of it. No node tells the client
// that its connection ended.
func (l *lab) strays(t *testing.T, c net.Conn) {
	t.Helper()
	var all []packet
	for _, flags := range []uint8{ack, fin | ack, rst} {
		all = append(all, packetOf(c, flags)) // its sequence number is 0
	}
	l.node("a").receiveWhole(t, all...)
	broken := packetOf(c, ack)
	l.node("a").receive(t, broken) // without a checksum
}

// A connection that no node has is reset, wherever the walk ends.
func TestAskingEnds(t *testing.T) {
	l, client := newAskingLab(t, Options{})
	for _, f := range families {
		l.echo(t, f.vip)
	}
	for _, chain := range []string{"b a c", "a c b"} {
		l.everywhere(t, "b a c")
		for _, c := range l.dial(t, client) {
			l.everywhere(t, chain)
			for _, n := range l.nodes {
				n.forget(t)
			}
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			fmt.Fprintln(c, "hello")
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s, by %s: %v", c.LocalAddr(), chain, err)
			}
			_ = c.Close()
			l.everywhere(t, "b a c")
		}
	}
}

// A source that floods has no more packets passed on than it may, and others have theirs.
func TestAskingFlood(t *testing.T) {
	const rate, burst, sent = 5, 20, 300
	l, client := newAskingLab(t, Options{Diversions: Rate{PerSecond: rate, Burst: burst}})
	conns := l.connect(t, client)
	l.everywhere(t, "a c b")
	a, c := l.node("a"), l.node("c")
	for _, f := range families {
		before, arrived, began := c.counters(t).Asked, a.counters(t).Asked, time.Now()
		var all []packet
		for range sent {
			all = append(all, f.packet(tcp, ack))
		}
		a.receiveWhole(t, all...)
		nstest.Eventually(t, "all to have come in", func() bool { return a.counters(t).Asked >= arrived+sent })
		most := burst + rate*uint64(time.Since(began).Seconds()+2)
		if passed := c.counters(t).Asked - before; passed == 0 || passed > most {
			t.Errorf("%s: of %d packets %d were passed on, at most %d may be", f.name, sent, passed, most)
		}
	}
	for _, conn := range conns {
		ask(t, conn, "after the flood")
	}
}

// The tables are written again after somebody removed them, are adopted by the next agent, and
// go with the program.
func TestAskingTables(t *testing.T) {
	l, client := newAskingLab(t, Options{})
	conns, a := l.connect(t, client), l.node("a")
	l.everywhere(t, "c b a")
	tables := func(n *node) int { return strings.Count(n.space.Run(t, "nft", "list", "tables"), Table) }
	for _, f := range []string{"ip", "ip6"} {
		l.node("c").space.Run(t, "nft", "delete", "table", f, Table)
	}
	l.node("c").sync(t)
	for _, n := range l.nodes {
		n.restart(t)
		if got := tables(n); got != 2 {
			t.Errorf("%s: %d tables", n.name, got)
		}
	}
	for _, c := range conns {
		ask(t, c, "after another agent came")
	}
	generation := a.space.Run(t, "nft", "-a", "list", "table", "ip", Table)
	a.sync(t)
	if again := a.space.Run(t, "nft", "-a", "list", "table", "ip", Table); again != generation {
		t.Errorf("it was written again, and nothing had changed:\n%s\n%s", generation, again)
	}
	if why := a.p.Without(); !strings.Contains(why, "nftables") {
		t.Errorf("it does without: %q", why)
	}
	a.space.Do(t, func() error {
		_, err := Remove(a.p.opt.Pins)
		return err
	})
	if got := tables(a); got != 0 {
		t.Errorf("%d tables are left", got)
	}
	if _, err := os.Stat(looseFile); err != nil {
		t.Error(err)
	}
}

// Where conntrack does not take in a segment of a connection that it has not seen begin,
// nftables cannot tell what it is asked.
func TestAskingNeedsLoose(t *testing.T) {
	l, _ := newAskingLab(t, Options{})
	a := l.node("a")
	a.space.Run(t, "sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0")
	a.space.Do(t, func() error {
		if err := a.p.Sync(a.state, nil); err == nil || !strings.Contains(err.Error(), "nf_conntrack_tcp_loose") {
			t.Errorf("%v", err)
		}
		return nil
	})
}

// receiveWhole is receive for packets with checksums.
func (n *node) receiveWhole(t *testing.T, packets ...packet) {
	t.Helper()
	frames := make([][]byte, len(packets))
	for i, p := range packets {
		frames[i] = p.bytes(outsider, n.mac)
		complete(frames[i], p)
	}
	n.receiveFrames(t, frames...)
}

// complete writes the checksum of what is in an IP packet.
func complete(frame []byte, p packet) {
	body, at := frame[14+p.headerLength():], 16
	if p.about != nil {
		at = 2
	}
	total := uint32(0)
	add := func(b []byte) { total += uint32(sum(b)) }
	if p.about == nil || p.v6() {
		pseudo := append(p.from.Addr().AsSlice(), p.to.Addr().AsSlice()...)
		pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(body)))
		add(binary.BigEndian.AppendUint32(pseudo, uint32(p.number())))
	}
	add(body)
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	binary.BigEndian.PutUint16(body[at:], ^uint16(total))
}

// What opens a connection and has a slot of a node that is apart is translated to an endpoint of
// such nodes, each as often as others, and is to be masqueraded. Nothing else is.
func TestApartEndpoints(t *testing.T) {
	l := newLab(t, Options{}, "a", "b", "c")
	client, a := l.segment(t), l.node("a")
	l.parts(director.Apart)
	a.space.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.lan.send_redirects=0")
	client.Run(t, "sysctl", "-qw", "net.ipv6.conf.all.accept_redirects=0", "net.ipv6.conf.lan.accept_redirects=0")
	a.space.Pipe(t, fmt.Sprintf(`table inet engine {
		chain after { type filter hook prerouting priority -95; meta mark set meta mark & %#x; }
		chain postrouting { type nat hook postrouting priority 100; meta mark & %#[2]x == %#[2]x masquerade; }
	}`, ^(testMarks.Serve|testMarks.Reset), testMarks.Masquerade), "nft", "-f", "-")
	for _, f := range families {
		var at []netip.AddrPort
		for _, port := range []uint16{8081, 8082, 8083} {
			to := netip.AddrPortFrom(a.state.Nodes[1].IPv4, port) // an address of node b
			if f.vip.Addr().Is6() {
				to = netip.AddrPortFrom(a.state.Nodes[1].IPv6, port)
			}
			at = append(at, to)
			l.echo(t, to)
		}
		a.state.Frontends = append(a.state.Frontends, Frontend{VIP: f.vip, Proto: tcp, Slots: l.slots("c a"), Apart: at[:2+len(a.state.Frontends)]})
	}
	a.sync(t)
	a.attach(t)
	for _, f := range families {
		for range 40 {
			client.Do(t, func() error {
				c, err := net.DialTimeout("tcp", f.vip.String(), time.Minute)
				if err != nil {
					return err
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				fmt.Fprintln(c, "hello")
				line, err := bufio.NewReader(c).ReadString('\n')
				_, saw, _ := strings.Cut(strings.TrimSpace(line), " ")
				if own := a.state.Nodes[0]; err != nil || saw == "" || netip.MustParseAddrPort(saw).Addr() != own.IPv4 && netip.MustParseAddrPort(saw).Addr() != own.IPv6 {
					t.Errorf("the endpoint saw %q, not the node: %v", saw, err)
				}
				return nil
			})
		}
	}
	for i, family := range []string{"ip", "ip6"} {
		list := a.space.Run(t, "nft", "list", "table", family, Table)
		if !strings.Contains(list, fmt.Sprintf("spread-%d", 2+i)) {
			t.Errorf("%s", list)
		}
	}
	for i := range a.state.Frontends {
		a.state.Frontends[i].Apart = nil
	}
	a.sync(t)
	out := a.space.Run(t, "nft", "list", "ruleset")
	if strings.Contains(out, chainApart) || a.p.ability.Oracle && strings.Contains(out, Table) {
		t.Errorf("it is left:\n%s", out)
	}
}
