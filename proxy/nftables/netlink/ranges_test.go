package netlink

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// ranged makes a Frontend with the ports from first to last.
func (a addressing) ranged(network string, first, last uint16, endpoints ...netip.Addr) *proxy.Frontend {
	f := a.front(proxy.VIP, network, endpoints...)
	f.Port, f.Ranges = 0, []snapshot.PortRange{{Protocol: f.Protocol, First: first, Last: last}}
	for i, ep := range f.Cluster {
		f.Cluster[i] = netip.AddrPortFrom(ep.Addr(), 0)
	}
	return f
}

// rangedTable is table with the hairpins of ranges of ports.
func (a addressing) rangedTable(frontends ...*proxy.Frontend) *proxy.Table {
	t := a.table(frontends...)
	var all []proxy.Target
	for _, p := range []snapshot.Protocol{snapshot.TCP, snapshot.UDP} {
		for _, pod := range []netip.Addr{a.podA, a.podB} {
			all = append(all, proxy.Target{Protocol: p, Addr: netip.AddrPortFrom(pod, 0)})
		}
	}
	t.Hairpin = append(all, t.Hairpin...)
	return t
}

// spec 109: each port of a range reaches the same port of an endpoint, by both families,
// from outside, from pods and from the node. A port that the Service has by itself goes
// where that says. What is outside is refused.
func TestRanges(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(a.vip, port) }
		onA, onRemote := "podA "+a.nodeOnA.String(), "remote "+a.nodeOnRemote.String()
		sync(t, l.engine, a.rangedTable(a.ranged(network, 8000, 8081, a.podA, a.remote)))
		l.client.wants(t, network, at(8080), onA, onRemote)
		l.client.wants(t, network, at(8081), "new-"+onA, "new-"+onRemote)
		l.podB.wants(t, network, at(8081), "new-"+onA, "new-"+onRemote)
		l.node.wants(t, network, at(8081), "new-"+onA, "new-"+onRemote)
		for _, port := range []uint16{7999, 8082} {
			if got := l.client.ask(network, at(port)); got != "refused" {
				t.Errorf("port %d: %q", port, got)
			}
		}
		own := a.front(proxy.VIP, network, a.podB)
		own.Port = 8081
		sync(t, l.engine, a.rangedTable(own, a.ranged(network, 1, 65535, a.podA)))
		l.client.wants(t, network, at(8081), "podB "+a.nodeOnB.String())
		l.client.wants(t, network, at(8080), onA)
		l.podA.wants(t, network, at(8080), onA) // it reaches itself
		sync(t, l.engine, a.rangedTable(a.ranged(network, 8080, 8080)))
		if got := l.client.ask(network, at(8080)); got != "refused" {
			t.Errorf("without endpoints: %q", got)
		}
	})
}

// spec 109: policy Local and source ranges hold for ranges of ports as well.
func TestRangesLocalAndSources(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		at := netip.AddrPortFrom(a.vip, 8081)
		f := a.ranged(network, 8000, 9000, a.podA, a.remote)
		f.LocalOnly, f.Local = true, []netip.AddrPort{netip.AddrPortFrom(a.podA, 0)}
		sync(t, l.engine, a.rangedTable(f))
		for range 8 {
			l.client.wants(t, network, at, "new-podA "+a.client.String())
		}
		l.podB.wants(t, network, at, "new-podA "+a.podB.String(), "new-remote "+a.podB.String())
		none := a.ranged(network, 8000, 9000, a.remote)
		none.LocalOnly, none.Empty = true, proxy.Drop
		sync(t, l.engine, a.rangedTable(none))
		l.client.silent(t, network, at)
		only := a.ranged(network, 8000, 9000, a.podA)
		only.Sources = []netip.Prefix{netip.PrefixFrom(a.client, a.client.BitLen())}
		sync(t, l.engine, a.rangedTable(only))
		l.client.wants(t, network, at, "new-podA "+a.nodeOnA.String())
		if got := l.client.outcome(network, at, netip.AddrPortFrom(a.client2, 0), brief); got != "nothing" {
			t.Errorf("from elsewhere: %q", got)
		}
		if got := l.client.outcome(network, netip.AddrPortFrom(a.vip, 9001), netip.AddrPortFrom(a.client2, 0), patient); got != "refused" {
			t.Errorf("from elsewhere, outside of the range: %q", got)
		}
	})
}

// spec 109: with affinity, a client stays with its endpoint over all ports of the ranges.
func TestRangesAffinity(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		f := a.ranged(network, 8000, 9000, a.podA, a.podB, a.remote)
		f.Affinity = time.Hour
		sync(t, l.engine, a.rangedTable(f))
		first := l.client.ask(network, netip.AddrPortFrom(a.vip, 8080))
		for range 12 {
			if got := l.client.ask(network, netip.AddrPortFrom(a.vip, 8081)); got != "new-"+first {
				t.Fatalf("after %q: %q", first, got)
			}
		}
	})
}

// spec 110: a UDP flow to a range ends when its endpoint goes, when its port is no longer
// in a range, and when the Service has the port by itself. Other flows stay.
func TestRangesFlows(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		t.Run(family.String(), func(t *testing.T) {
			a := addressesOf(family)
			ask := func(port uint16) func() string {
				return func() string {
					return l.client.outcome("udp", netip.AddrPortFrom(a.vip, port), netip.AddrPortFrom(a.client, 42000+port), brief)
				}
			}
			onA, onB := "podA "+a.nodeOnA.String(), "podB "+a.nodeOnB.String()
			sync(t, l.engine, a.rangedTable(a.ranged("udp", 8080, 8081, a.podA)))
			soon(t, "at first", ask(8080), onA)
			soon(t, "the other port at first", ask(8081), "new-"+onA)
			sync(t, l.engine, a.rangedTable(a.ranged("udp", 8080, 8081, a.podB)))
			soon(t, "another endpoint", ask(8080), onB)
			own := a.front(proxy.VIP, "udp", a.podA)
			own.Port = 8081
			sync(t, l.engine, a.rangedTable(own, a.ranged("udp", 8080, 8081, a.podB)))
			soon(t, "a port by itself", ask(8081), onA)
			sync(t, l.engine, a.rangedTable(a.ranged("udp", 8080, 8081, a.podB)))
			soon(t, "no longer by itself", ask(8081), "new-"+onB)
			sync(t, l.engine, a.rangedTable(a.ranged("udp", 8080, 8080, a.podB)))
			soon(t, "outside of the range", ask(8081), "refused")
			if got := ask(8080)(); got != onB {
				t.Errorf("the port that stays: %q", got)
			}
		})
	}
}

// An endpoint of a range that comes or goes writes data alone: no verdict, and nothing of
// the interval.
func TestRangesChangeWritesOneElement(t *testing.T) {
	l := newLab(t)
	a := addressesOf(snapshot.IPv4)
	table := func(endpoints ...netip.Addr) *proxy.Table {
		f := a.ranged("udp", 10000, 20000, endpoints...)
		f.Ranges = append(f.Ranges, snapshot.PortRange{Protocol: snapshot.UDP, First: 30000, Last: 40000})
		return a.rangedTable(f)
	}
	sync(t, l.engine, table(a.podA, a.podB))
	if c := sync(t, l.engine, table(a.podA, a.remote)); c.Added != 1 || c.Deleted != 1 || c.Rebuilt {
		t.Errorf("an endpoint was replaced: %+v", c)
	}
}

// What the director marks is done in a range of ports as it is at a port: what is served here
// goes to an endpoint of this node with the client's address, and what is to be reset is. A
// port outside of the range is refused all the same.
func TestRangesDirected(t *testing.T) {
	l := newLab(t)
	marks := nftables.MarksBeside(nftables.DefaultMark)
	front := func(a addressing, network string) *proxy.Frontend {
		f := a.ranged(network, 8000, 8081, a.podA, a.remote)
		f.Directed, f.Local = true, []netip.AddrPort{netip.AddrPortFrom(a.podA, 0)}
		return f
	}
	each(t, func(t *testing.T, a addressing, network string) {
		sync(t, l.engine, a.rangedTable(front(a, network)))
		l.marking(t, a, marks.Serve)
		for range 8 {
			l.client.wants(t, network, netip.AddrPortFrom(a.vip, 8081), "new-podA "+a.client.String())
			l.podB.wants(t, network, netip.AddrPortFrom(a.vip, 8080), "podA "+a.podB.String())
		}
		if out := l.node.Run(t, "nft", "list", "table", familyName(a), "director"); !strings.Contains(out, "counter packets 0 ") {
			t.Errorf("the mark is left:\n%s", out)
		}
		if got := l.client.ask(network, netip.AddrPortFrom(a.vip, 8082)); got != "refused" {
			t.Errorf("outside of the range: %q", got)
		}
		none := front(a, network) // an endpoint that the director knows and the rules do not
		none.Local = nil
		sync(t, l.engine, a.rangedTable(none))
		l.client.wants(t, network, netip.AddrPortFrom(a.vip, 8080), "podA "+a.nodeOnA.String(), "remote "+a.nodeOnRemote.String())
		l.marking(t, a, 0)
	})
	for i, family := range bothFamilies {
		a := addressesOf(family)
		sync(t, l.engine, a.rangedTable(front(a, "tcp")))
		in, out := l.podA.raw(t, family, unix.IPPROTO_TCP), l.client.raw(t, family, unix.IPPROTO_TCP)
		from, to := netip.AddrPortFrom(a.client, uint16(40600+i)), netip.AddrPortFrom(a.vip, 8081)
		send(t, out, to.Addr(), segment(from, to, 1<<20, 1<<20, flagAck, "stray"))
		if got := receive(t, out, family, brief, reset(to.Port())); got != nil {
			t.Errorf("%s: after a stray segment the client received % x", family, got)
		}
		if got := receive(t, in, family, brief, func(b []byte) bool { return bytes.Contains(b, []byte("stray")) }); got != nil {
			t.Errorf("%s: the endpoint received % x", family, got)
		}
		l.marking(t, a, marks.Serve)
		c, err := l.client.dial("tcp", to, netip.AddrPort{}, patient)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got, err := say(c, patient); err != nil {
			t.Fatal(got, err)
		}
		l.marking(t, a, marks.Serve|marks.Reset)
		if got, err := say(c, patient); err != nil {
			t.Errorf("%s: with both marks: %q, %v", family, got, err)
		}
		own := netip.MustParseAddrPort(c.LocalAddr().String())
		for seq := range uint32(4) { // at most one of them is in the window
			send(t, out, to.Addr(), segment(own, to, seq<<30, 1, flagAck, "hello"))
		}
		if receive(t, out, family, patient, reset(to.Port())) == nil {
			t.Errorf("%s: what is not of the closed connection is not reset", family)
		}
		l.marking(t, a, marks.Reset)
		wantReset(t, c)
		l.marking(t, a, 0)
	}
}

// What a Service asks of its connections holds for its ranges of ports: source ports are kept,
// a client has one pod at all ports of the Service, and connections to removed endpoints end.
func TestRangesConnections(t *testing.T) {
	l := newLab(t)
	serveEcho(t, l.podA, ":5060")
	for _, family := range bothFamilies {
		a := addressesOf(family)
		table := a.rangedTable(a.ranged("udp", 5000, 5999, a.podA))
		table.KeepPorts = []proxy.Target{{Protocol: snapshot.UDP, Addr: netip.AddrPortFrom(a.podA, 0)}}
		sync(t, l.engine, table)
		src := netip.AddrPortFrom(a.client, 5061)
		if got := l.client.outcome("udp", netip.AddrPortFrom(a.vip, 5060), src, patient); got != netip.AddrPortFrom(a.nodeOnA, src.Port()).String() &&
			got != netip.AddrPortFrom(netip.AddrFrom16(a.nodeOnA.As16()), src.Port()).String() {
			t.Errorf("%s: port %d became %s", family, src.Port(), got)
		}
		var fronts []*proxy.Frontend
		for _, network := range []string{"tcp", "udp"} {
			f := a.ranged(network, 8000, 8081, a.podA, a.podB, a.remote)
			port := a.front(proxy.VIP, network, a.podA, a.podB, a.remote)
			f.AllPorts, port.AllPorts = true, true
			fronts = append(fronts, f, port)
		}
		sync(t, l.engine, a.rangedTable(fronts...))
		for _, src := range []netip.Addr{a.client, a.client2} {
			first := ""
			for _, network := range []string{"tcp", "udp"} {
				for _, port := range []uint16{80, 8080, 8081} {
					got := l.client.outcome(network, netip.AddrPortFrom(a.vip, port), netip.AddrPortFrom(src, 0), patient)
					if got = strings.TrimPrefix(got, "new-"); first == "" {
						first = got
					}
					if got != first {
						t.Errorf("%s %s port %d: %s, elsewhere %s", src, network, port, got, first)
					}
				}
			}
		}
		confined := func(pod netip.Addr) *proxy.Table {
			f := a.ranged("tcp", 8000, 8081, pod)
			f.Members = f.Cluster
			return a.rangedTable(f)
		}
		sync(t, l.engine, confined(a.podA))
		c, err := l.client.dial("tcp", netip.AddrPortFrom(a.vip, 8081), netip.AddrPort{}, patient)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got, err := say(c, patient); err != nil {
			t.Fatal(got, err)
		}
		sync(t, l.engine, confined(a.podB))
		if err := c.SetReadDeadline(time.Now().Add(10 * patient)); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: a client whose endpoint was removed read %d bytes, %v", family, n, err)
		}
	}
}

// The kernel limits how many ICMPv6 errors a client gets. Packets that leave a node by the
// link that they came in by use up what a client may get, as the kernel would tell their
// sender of a shorter way. So a datagram to a port that the VIP does not have may not be
// refused after a busy second. Each one that is not is counted by the kernel, a later one is
// refused, and so is each TCP connection.
func TestRefusesAsOftenAsTheKernelLets(t *testing.T) {
	l := newLab(t)
	a := addressesOf(snapshot.IPv6)
	l.node.Run(t, "sysctl", "-qw", "net.ipv6.icmp.ratelimit=1000")
	l.client.Run(t, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
	// An endpoint of another node on the client's link: its answers come in and leave by it.
	far := newSpace(t, "far")
	far.prepare(t)
	l.client.Run(t, "ip", "link", "add", "far", "type", "veth", "peer", "name", "eth0", "netns", far.Name)
	host := netip.MustParseAddr("fd98:0:3::2")
	for _, step := range []struct {
		in   space
		line string
	}{
		{l.client, "ip addr add fd98:0:3::1/64 dev far nodad"}, {l.client, "ip link set far up"},
		{far, "ip addr add " + host.String() + "/64 dev eth0 nodad"}, {far, "ip link set eth0 up"}, {far, "ip route add default via fd98:0:3::1"},
	} {
		step.in.Run(t, strings.Fields(step.line)...)
	}
	serve(t, far, ":8080", "far")
	sync(t, l.engine, a.rangedTable(a.ranged("udp", 8000, 8999, host), a.ranged("tcp", 8000, 8999, host)))
	limited := func() int {
		out := ""
		l.node.Do(t, func() error {
			b, err := os.ReadFile("/proc/thread-self/net/snmp6")
			out = string(b)
			return err
		})
		m := regexp.MustCompile(`Icmp6OutRateLimitHost\s+(\d+)`).FindStringSubmatch(out)
		if m == nil {
			return -1 // older kernels do not count them
		}
		n, _ := strconv.Atoi(m[1])
		return n
	}
	closed, before := netip.AddrPortFrom(a.vip, 9999), limited()
	for range 30 {
		if got := l.client.ask("udp", netip.AddrPortFrom(a.vip, 8080)); !strings.HasPrefix(got, "far ") {
			t.Fatal(got)
		}
	}
	silent := 0
	for l.client.ask("udp", closed) != "refused" {
		if silent++; silent > 10 {
			t.Fatal("no datagram is refused")
		}
	}
	t.Logf("%d datagrams were not refused", silent)
	if after := limited(); before >= 0 && after-before != silent {
		t.Errorf("%d datagrams were not refused, and the kernel kept back %d errors", silent, after-before)
	}
	for range 10 {
		if got := l.client.ask("tcp", closed); got != "refused" {
			t.Errorf("over TCP: %q", got)
		}
	}
}
