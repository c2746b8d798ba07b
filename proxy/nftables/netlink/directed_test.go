package netlink

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// directed makes a directed Frontend, whose endpoints are the remote one and podA.
func (a addressing) directed(network string) *proxy.Frontend {
	f := a.front(proxy.VIP, network, a.podA, a.remote)
	f.Directed, f.Local = true, []netip.AddrPort{a.ep(a.podA)}
	return f
}

// marking has the node mark what the client sends to a VIP, as the director does.
func (l *lab) marking(t *testing.T, a addressing, mark uint32) {
	t.Helper()
	l.node.Pipe(t, fmt.Sprintf(`
		add table %[1]s director
		delete table %[1]s director
		add table %[1]s director
		add chain %[1]s director in { type filter hook prerouting priority -310; }
		add rule %[1]s director in %[1]s daddr %[2]s meta mark set meta mark | %[3]d
		add chain %[1]s director routed { type filter hook prerouting priority -90; }
		add rule %[1]s director routed meta mark & %[3]d != 0 counter
	`, familyName(a), a.vip, mark), "nft", "-f", "-")
}

// What the director serves here goes to an endpoint of this node with the client's
// address, also if the client is a pod or the node's own address. The mark is gone before
// the packet is routed.
func TestServedHere(t *testing.T) {
	l := newLab(t)
	marks := nftables.MarksBeside(nftables.DefaultMark)
	each(t, func(t *testing.T, a addressing, network string) {
		f := a.directed(network)
		sync(t, l.engine, a.table(f))
		l.marking(t, a, marks.Serve)
		for range 8 {
			l.client.wants(t, network, a.address(f), "podA "+a.client.String())
			l.podB.wants(t, network, a.address(f), "podA "+a.podB.String())
		}
		if out := l.node.Run(t, "nft", "list", "table", familyName(a), "director"); !strings.Contains(out, "counter packets 0 ") {
			t.Errorf("the mark is left:\n%s", out)
		}
		// An endpoint that the director knows and the rules do not.
		none := a.directed(network)
		none.Local = nil
		sync(t, l.engine, a.table(none))
		l.client.wants(t, network, a.address(f), "podA "+a.nodeOnA.String(), "remote "+a.nodeOnRemote.String())
	})
}

// What the director has reset is told at once, and only that.
func TestResetByTheDirector(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		a := addressesOf(family)
		f := a.directed("tcp")
		sync(t, l.engine, a.table(f))
		c, err := l.client.dial("tcp", a.address(f), netip.AddrPort{}, patient)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got, err := say(c, patient); err != nil {
			t.Fatal(got, err)
		}
		l.marking(t, a, nftables.MarksBeside(nftables.DefaultMark).Reset)
		wantReset(t, c)
	}
}

// At the end of a walk a node may have another connection of the same ports, which is
// closed. What is of that reaches its endpoint without the marks, and anything else is
// reset: the node that had its connection has lost it.
func TestClosedAtTheEndOfAWalk(t *testing.T) {
	l := newLab(t)
	marks := nftables.MarksBeside(nftables.DefaultMark)
	for i, family := range bothFamilies {
		a := addressesOf(family)
		f := a.directed("tcp")
		sync(t, l.engine, a.table(f))
		l.marking(t, a, marks.Serve)
		from, to := netip.AddrPortFrom(a.client, uint16(40500+i)), a.address(f)
		c, err := l.client.dial("tcp", to, from, patient)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fd := l.client.raw(t, family, unix.IPPROTO_TCP)
		for _, marked := range []uint32{marks.Serve, marks.Serve | marks.Reset} {
			l.marking(t, a, marked)
			if got, err := say(c, patient); err != nil || got != "podA "+a.client.String() {
				t.Errorf("%s, mark %#x: %q, %v", family, marked, got, err)
			}
			if out := l.node.Run(t, "nft", "list", "table", familyName(a), "director"); !strings.Contains(out, "counter packets 0 ") {
				t.Errorf("%s: a mark is left:\n%s", family, out)
			}
			for seq := range uint32(4) { // at most one of them is in the window
				send(t, fd, to.Addr(), segment(from, to, seq<<30, 1, flagAck, "hello"))
			}
			wait := brief
			if marked != marks.Serve {
				wait = patient
			}
			if told := receive(t, fd, family, wait, reset(to.Port())) != nil; told != (marked != marks.Serve) {
				t.Errorf("%s, mark %#x: reset: %t", family, marked, told)
			}
		}
	}
}

// wantReset wants the next segment of a connection answered with a reset.
func wantReset(t *testing.T, c net.Conn) {
	t.Helper()
	got, err := say(c, patient)
	if err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("no reset: %q, %v", got, err)
	}
}

// A stray segment to a directed VIP is neither adopted nor refused: another node may have
// its connection.
func TestStraySegmentToADirectedVIP(t *testing.T) {
	l := newLab(t)
	for i, family := range bothFamilies {
		a := addressesOf(family)
		f := a.directed("tcp")
		sync(t, l.engine, a.table(f))
		in, out := l.podA.raw(t, family, unix.IPPROTO_TCP), l.client.raw(t, family, unix.IPPROTO_TCP)
		from, to := netip.AddrPortFrom(a.client, uint16(40400+i)), a.address(f)
		send(t, out, to.Addr(), segment(from, to, 1<<20, 1<<20, flagAck, "stray"))
		if got := receive(t, out, family, brief, reset(f.Port)); got != nil {
			t.Errorf("%s: the client received % x", family, got)
		}
		if got := receive(t, in, family, brief, func(b []byte) bool { return bytes.Contains(b, []byte("stray")) }); got != nil {
			t.Errorf("%s: the endpoint received % x", family, got)
		}
	}
}

// A client is told that its endpoint has gone, whether a route leads elsewhere then or
// none does, by policy Local as by the director. One whose endpoint is there is not.
func TestGoneEndpoint(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		a := addressesOf(family)
		for name, f := range map[string]*proxy.Frontend{"directed": a.directed("tcp"), "local": a.localOnly(a.front(proxy.VIP, "tcp", a.podA), a.podA)} {
			for _, elsewhere := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%s/%t", family, name, elsewhere), func(t *testing.T) { l.endpointGoes(t, a, f, elsewhere) })
			}
		}
	}
}

func (l *lab) endpointGoes(t *testing.T, a addressing, f *proxy.Frontend, elsewhere bool) {
	table := a.table(f)
	table.Uplinks = []string{"client"}
	sync(t, l.engine, table)
	l.marking(t, a, nftables.MarksBeside(nftables.DefaultMark).Serve)
	dial := func() net.Conn {
		c, err := l.client.dial("tcp", a.address(f), netip.AddrPort{}, patient)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if got, err := say(c, patient); err != nil || got != "podA "+a.client.String() {
			t.Fatal(got, err)
		}
		return c
	}
	c := dial()
	if _, err := say(c, patient); err != nil {
		t.Fatal("while the endpoint is there: ", err)
	}
	goes := []netlink.Route{{Dst: host128(a.podA)}}
	if !elsewhere {
		goes = append(goes, netlink.Route{Gw: a.client.AsSlice()})
	}
	l.without(t, goes, func() { wantReset(t, c) })
	dial()
}

// without has the node lack routes while do runs.
func (l *lab) without(t *testing.T, routes []netlink.Route, do func()) {
	t.Helper()
	var gone []netlink.Route
	l.node.Do(t, func() error {
		all, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
		for _, have := range all {
			for _, r := range routes {
				if r.Dst != nil && have.Dst != nil && r.Dst.String() == have.Dst.String() || r.Gw != nil && r.Gw.Equal(have.Gw) {
					gone = append(gone, have)
				}
			}
		}
		for _, r := range gone {
			if err == nil {
				err = netlink.RouteDel(&r)
			}
		}
		return err
	})
	if len(gone) != len(routes) {
		t.Fatalf("%d routes, not %d: %v", len(gone), len(routes), gone)
	}
	do()
	l.node.Do(t, func() error {
		for _, r := range gone {
			if err := netlink.RouteAdd(&r); err != nil {
				return err
			}
		}
		return nil
	})
}
