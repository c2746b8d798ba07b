package ebpf

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/dataplanetest"
)

// peerName is what getpeername says.
func peerName(c net.Conn) (name string, err error) {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return "", err
	}
	return name, errors.Join(raw.Control(func(fd uintptr) { name, err = peerOf(int(fd)) }), err)
}

func peerOf(fd int) (string, error) {
	sa, err := unix.Getpeername(fd)
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return fmt.Sprintf("%s:%d", net.IP(sa.Addr[:]), sa.Port), err
	case *unix.SockaddrInet6:
		return fmt.Sprintf("[%s]:%d", net.IP(sa.Addr[:]), sa.Port), err
	}
	return "", err
}

const (
	podA4, podB4 = "198.18.1.3", "198.18.1.4"
	podA6, podB6 = "fd98:0:1::3", "fd98:0:1::4"
)

func TestConnect(t *testing.T) {
	l := newLab(t)
	e := l.engine(t)
	sync(t, e, &proxy.Table{Frontends: []*proxy.Frontend{
		front("198.18.96.1", snapshot.TCP, 80, podA4),
		front("fd98:0:96::1", snapshot.TCP, 80, podA6),
	}})
	c := l.program(t, "client")
	c.want(t, "map[podA:10]", "flood tcp 198.18.96.1:80 10")
	c.want(t, "map[podA:10]", "flood tcp [fd98:0:96::1]:80 10")
	c.want(t, "ok", "dial four tcp 198.18.96.1:80")
	c.want(t, "198.18.96.1:80", "peer four")
	c.want(t, "podA", "say four")
	c.want(t, "ok", "dial six tcp [fd98:0:96::1]:80")
	c.want(t, "[fd98:0:96::1]:80", "peer six")
	sync(t, e, &proxy.Table{Frontends: []*proxy.Frontend{front("198.18.96.1", snapshot.TCP, 80, podB4)}})
	c.want(t, "podA", "say four")
	c.want(t, "map[podB:10]", "flood tcp 198.18.96.1:80 10")
}

// TestDatagrams: a socket that is not connected keeps its endpoint, is answered
// from the address that it sent to, and moves when its endpoint goes.
func TestDatagrams(t *testing.T) {
	l := newLab(t)
	e := l.engine(t)
	c := l.program(t, "client")
	for _, family := range []struct{ vip, at, a, b string }{
		{"198.18.96.1", "198.18.96.1:53", podA4, podB4}, {"fd98:0:96::1", "[fd98:0:96::1]:53", podA6, podB6},
	} {
		sync(t, e, &proxy.Table{Frontends: []*proxy.Frontend{front(family.vip, snapshot.UDP, 53, family.a, family.b)}})
		first := c.do(t, "send %s %s", family.vip, family.at)
		if first != "podA from "+family.at && first != "podB from "+family.at {
			t.Fatalf("answer: %q", first)
		}
		for range 10 {
			c.want(t, first, "send %s %s", family.vip, family.at)
		}
		other, left := "podB", family.b
		if strings.HasPrefix(first, "podB") {
			other, left = "podA", family.a
		}
		sync(t, e, &proxy.Table{Frontends: []*proxy.Frontend{front(family.vip, snapshot.UDP, 53, left)}})
		c.want(t, other+" from "+family.at, "send %s %s", family.vip, family.at)
	}
}

// TestStaleSockets: a connected UDP socket whose endpoint went is closed, and so
// is not one that dialled the endpoint itself; what is closed is forgotten. The same
// if others have their seats.
func TestStaleSockets(t *testing.T) {
	for _, taken := range []bool{false, true} {
		t.Run(fmt.Sprintf("seats taken %v", taken), func(t *testing.T) { staleSockets(t, taken) })
	}
}

func staleSockets(t *testing.T, taken bool) {
	l := newLab(t)
	e := l.engine(t)
	c := l.program(t, "client")
	for i, family := range []struct{ vip, at, direct, a, b string }{
		{"198.18.96.1", "198.18.96.1:53", podA4 + ":8080", podA4, podB4},
		{"fd98:0:96::1", "[fd98:0:96::1]:53", "[" + podA6 + "]:8080", podA6, podB6},
	} {
		sync(t, e, &proxy.Table{Frontends: []*proxy.Frontend{front(family.vip, snapshot.UDP, 53, family.a)}})
		if taken && i == 0 {
			takeSeats(t, e)
		}
		c.want(t, "ok", "dial service udp %s", family.at)
		c.want(t, "ok", "dial pod udp %s", family.direct)
		c.want(t, family.at, "peer service")
		c.want(t, "podA", "say service")
		c.want(t, "podA", "say pod")
		if seated, standing := dialled(t, e); seated+standing != 1 || taken != (standing == 1) {
			t.Errorf("%d sockets have seats and %d have none", seated, standing)
		}
		sync(t, e, &proxy.Table{Frontends: []*proxy.Frontend{front(family.vip, snapshot.UDP, 53, family.a, family.b)}})
		c.want(t, "podA", "say service")
		sync(t, e, &proxy.Table{Frontends: []*proxy.Frontend{front(family.vip, snapshot.UDP, 53, family.b)}})
		if got := c.do(t, "say service"); !fails(got) {
			t.Errorf("a socket to an endpoint that went: %q", got)
		}
		c.want(t, "podA", "say pod")
		c.want(t, "map[podB:5]", "flood udp %s 5", family.at)
		c.want(t, "ok", "close service")
		c.want(t, "ok", "close pod")
		if seated, standing := dialled(t, e); seated+standing != 0 {
			t.Errorf("%d sockets with seats and %d without are not forgotten", seated, standing)
		}
	}
}

// nobody is a cookie that no socket has.
const nobody = math.MaxUint64 - 1

// takeSeats makes it look as if other sockets had all seats.
func takeSeats(t *testing.T, e *Engine) {
	t.Helper()
	for i := range e.objects.Seats.MaxEntries() {
		if err := e.objects.Seats.Put(i, connectSeat{Cookie: nobody}); err != nil {
			t.Fatal(err)
		}
	}
}

// dialled counts the sockets that are remembered by their seats, and the others.
func dialled(t *testing.T, e *Engine) (seated, standing int) {
	t.Helper()
	var index uint32
	var cookie uint64
	var seat connectSeat
	var dial connectDial
	all := e.objects.Seats.Iterate()
	for all.Next(&index, &seat) {
		if seat.Cookie != 0 && seat.Cookie != nobody {
			seated++
		}
	}
	rest := e.objects.Dials.Iterate()
	for rest.Next(&cookie, &dial) {
		standing++
	}
	if err := errors.Join(all.Err(), rest.Err()); err != nil {
		t.Fatal(err)
	}
	return seated, standing
}

// TestAffinity: all clients of a network namespace stay with an endpoint, until
// it goes or the time is over.
func TestAffinity(t *testing.T) {
	l := newLab(t)
	e := l.engine(t)
	sticky := func(timeout time.Duration, endpoints ...string) *proxy.Table {
		f := front("198.18.96.1", snapshot.TCP, 80, endpoints...)
		f.Affinity = timeout
		return &proxy.Table{Frontends: []*proxy.Frontend{f}}
	}
	sync(t, e, sticky(time.Hour, podA4, podB4))
	c, again := l.program(t, "client"), l.program(t, "client")
	first := c.do(t, "flood tcp 198.18.96.1:80 20")
	if first != "map[podA:20]" && first != "map[podB:20]" {
		t.Fatalf("a client was sent to %s", first)
	}
	again.want(t, first, "flood tcp 198.18.96.1:80 20")
	left, other := podA4, "map[podA:20]"
	if first == other {
		left, other = podB4, "map[podB:20]"
	}
	sync(t, e, sticky(time.Hour, left))
	c.want(t, other, "flood tcp 198.18.96.1:80 20")
	sync(t, e, sticky(time.Hour, podA4, podB4))
	c.want(t, other, "flood tcp 198.18.96.1:80 20")
	sync(t, e, sticky(time.Second, podA4, podB4))
	nstest.Eventually(t, "the client to be sent to the other endpoint", func() bool {
		time.Sleep(1100 * time.Millisecond) // longer than it stays
		return c.do(t, "flood tcp 198.18.96.1:80 1") == strings.Replace(first, "20", "1", 1)
	})
}

// TestLeft: what the programs leave alone comes to its endpoint by nftables.
func TestLeft(t *testing.T) {
	l := newLab(t)
	e := l.engine(t)
	table := &proxy.Table{
		Frontends: []*proxy.Frontend{
			front("198.18.96.1", snapshot.TCP, 80, podA4), front("198.18.96.2", snapshot.TCP, 80),
			front("198.18.200.1", snapshot.TCP, 80, podA4), front("198.18.200.2", snapshot.TCP, 80, podA4),
		},
		NodePortAddrs: []netip.Addr{netip.MustParseAddr("198.18.1.1"), netip.MustParseAddr("fd98:0:1::1")},
	}
	table.Frontends[1].Empty = proxy.Reject
	for i, pods := range []string{"198.18.1.0/24", "203.0.113.0/24"} {
		table.Frontends[2+i].Kind = proxy.VIP
		table.Frontends[2+i].Sources = []netip.Prefix{netip.MustParsePrefix(pods)}
	}
	node := front("198.18.1.1", snapshot.TCP, 30080, podB4)
	node.Kind, node.Addr = proxy.NodePort, netip.Addr{}
	node6 := front("fd98:0:1::1", snapshot.TCP, 30080, podA6)
	node6.Kind, node6.Addr = proxy.NodePort, netip.Addr{}
	table.Frontends = append(table.Frontends, node, node6)
	sync(t, e, table)
	if got := e.State().LeftFrontends; got != 2 {
		t.Errorf("%d Frontends are left to nftables, want 2", got)
	}
	inside, outside := l.program(t, "client"), l.programIn(t, "client", filepath.Dir(l.cgroup))
	for _, c := range []*program{inside, outside} {
		c.want(t, "map[podA:3]", "flood tcp 198.18.96.1:80 3")
		c.want(t, "map[podA:3]", "flood tcp 198.18.200.1:80 3")
		c.want(t, "map[podB:3]", "flood tcp 198.18.1.1:30080 3")
		c.want(t, "map[podA:3]", "flood tcp [fd98:0:1::1]:30080 3")
		if got := c.do(t, "flood tcp 198.18.96.2:80 1"); !strings.Contains(got, "refused") {
			t.Errorf("a Service without endpoints: %q", got)
		}
	}
	// Without nftables, the programs alone.
	if err := e.opt.Behind.Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
	inside.want(t, "map[podA:3]", "flood tcp 198.18.96.1:80 3")
	inside.want(t, "map[podB:3]", "flood tcp 198.18.1.1:30080 3")
	inside.want(t, "map[podA:3]", "flood tcp [fd98:0:1::1]:30080 3")
	inside.want(t, "map[podA:3]", "flood tcp [::ffff:198.18.96.1]:80 3")
}

// TestChangesUnderLoad: connections that are made while the endpoints change all
// the time come to an endpoint that the Service had, and none fails.
func TestChangesUnderLoad(t *testing.T) {
	l := newLab(t)
	e := l.engine(t)
	tables := []*proxy.Table{
		{Frontends: []*proxy.Frontend{front("198.18.96.1", snapshot.TCP, 80, podA4), front("198.18.96.2", snapshot.TCP, 80, podB4)}},
		{Frontends: []*proxy.Frontend{front("198.18.96.1", snapshot.TCP, 80, podA4, podA4), front("198.18.96.2", snapshot.TCP, 80, podB4, podB4)}},
		{Frontends: []*proxy.Frontend{front("198.18.96.1", snapshot.TCP, 80, podA4)}},
	}
	sync(t, e, tables[0])
	if err := e.opt.Behind.Cleanup(t.Context()); err != nil { // what falls through fails
		t.Fatal(err)
	}
	e.opt.Behind = dataplanetest.NewFake()
	done := make(chan struct{})
	c := l.program(t, "client")
	var got string
	go func() {
		defer close(done)
		got = c.do(t, "flood tcp 198.18.96.1:80 3000")
	}()
	changes := 0
	for going := true; going; {
		select {
		case <-done:
			going = false
		default:
			sync(t, e, tables[changes%len(tables)])
			changes++
		}
	}
	if got != "map[podA:3000]" {
		t.Errorf("after %d changes: %s", changes, got)
	}
	t.Logf("%d changes", changes)
}
