package netlink

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// The flags of a TCP segment.
const (
	flagSyn = 0x02
	flagRst = 0x04
	flagAck = 0x10
)

// reset reports whether a segment from port ends a connection.
func reset(port uint16) func([]byte) bool {
	return func(b []byte) bool { return binary.BigEndian.Uint16(b) == port && b[13]&flagRst != 0 }
}

// own gives the node an address, as a lease of layer 2 does.
func (l *lab) own(t *testing.T, addr netip.Addr) {
	t.Helper()
	l.node.Do(t, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.AddrReplace(lo, &netlink.Addr{IPNet: host128(addr), Flags: unix.IFA_F_NODAD})
	})
}

// outside are the kinds of Frontends that a client dials, and the policies.
func outside(t *testing.T, a addressing, test func(t *testing.T, f *proxy.Frontend)) {
	for _, kind := range []proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.ExternalIP, proxy.NodePort} {
		t.Run(fmt.Sprintf("%s/%s", a.family, kind), func(t *testing.T) { test(t, a.front(kind, "tcp", a.podA)) })
		if kind != proxy.ClusterIP {
			t.Run(fmt.Sprintf("%s/%s/local", a.family, kind), func(t *testing.T) {
				test(t, a.localOnly(a.front(kind, "tcp", a.podA), a.podA))
			})
		}
	}
}

// spec 99: a segment of a client that is outside of its connection's window does
// not reach the node's own TCP, which would answer with a reset, where the address
// of the Service is an address of the node.
func TestSegmentOutsideOfTheWindow(t *testing.T) {
	l := newLab(t)
	port := uint16(40100)
	for _, family := range bothFamilies {
		a := addressesOf(family)
		l.own(t, a.vip)
		l.own(t, a.clusterIP)
		outside(t, a, func(t *testing.T, f *proxy.Frontend) {
			sync(t, l.engine, a.table(f))
			port++
			from, to := netip.AddrPortFrom(a.client, port), a.address(f)
			c, err := l.client.dial("tcp", to, from, patient)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			before, err := say(c, patient)
			if err != nil {
				t.Fatal(before, err)
			}
			fd := l.client.raw(t, family, unix.IPPROTO_TCP)
			for seq := range uint32(4) { // at most one of them is in the window
				send(t, fd, to.Addr(), segment(from, to, seq<<30, 1, flagAck, "hello"))
			}
			if got := receive(t, fd, family, brief, reset(to.Port())); got != nil {
				t.Errorf("the client received a reset: % x", got)
			}
			if got, err := say(c, patient); err != nil || got != before {
				t.Errorf("afterwards: %q, %v", got, err)
			}
		})
	}
}

// unreachable is an ICMP error about a packet that nobody sent.
func unreachable(a addressing, from, to netip.AddrPort) []byte {
	quoted := segment(from, to, 1, 1, flagAck, "")
	header := make([]byte, 20)
	header[0], header[8], header[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(header[2:], uint16(len(header)+len(quoted)))
	copy(header[12:], from.Addr().AsSlice())
	copy(header[16:], to.Addr().AsSlice())
	typ := byte(3)
	if a.family == snapshot.IPv6 {
		typ, header = 1, make([]byte, 40)
		header[0], header[6], header[7] = 0x60, unix.IPPROTO_TCP, 64
		binary.BigEndian.PutUint16(header[4:], uint16(len(quoted)))
		copy(header[8:], from.Addr().AsSlice())
		copy(header[24:], to.Addr().AsSlice())
	}
	b := append([]byte{typ, 0, 0, 0, 0, 0, 0, 0}, header...)
	b = append(b, quoted...)
	if a.family == snapshot.IPv4 { // the kernel writes the checksum of ICMPv6
		sum := uint32(0)
		for i := 0; i < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
		sum = sum>>16 + sum&0xffff
		binary.BigEndian.PutUint16(b[2:], ^uint16(sum+sum>>16))
	}
	return b
}

// spec 99: what belongs to no connection does not go around between router and
// node, where the address of the Service is announced by BGP: the node's route to
// it leads to the router.
func TestInvalidDoesNotLoop(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		a := addressesOf(family)
		icmp := unix.IPPROTO_ICMP
		if family == snapshot.IPv6 {
			icmp = unix.IPPROTO_ICMPV6
		}
		for _, kind := range []proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.ExternalIP} {
			f := a.front(kind, "tcp", a.podA)
			from, to := netip.AddrPortFrom(a.remote, 40200), a.address(f)
			undefined := netip.AddrPortFrom(to.Addr(), 81)
			for name, forged := range map[string]struct {
				protocol int
				packet   []byte
			}{
				"reset":              {unix.IPPROTO_TCP, segment(from, to, 1, 1, flagRst, "")},
				"syn-ack":            {unix.IPPROTO_TCP, segment(from, to, 1, 1, flagSyn|flagAck, "")},
				"reset, undefined":   {unix.IPPROTO_TCP, segment(from, undefined, 1, 1, flagRst, "")},
				"unknown ICMP error": {icmp, unreachable(a, to, from)},
			} {
				t.Run(fmt.Sprintf("%s/%s/%s", family, kind, name), func(t *testing.T) {
					sync(t, l.engine, a.table(f))
					l.node.Pipe(t, strings.NewReplacer("FAMILY", familyName(a), "ADDR", to.Addr().String()).Replace(`
						add table FAMILY count
						delete table FAMILY count
						add table FAMILY count
						add chain FAMILY count in { type filter hook prerouting priority -300; }
						add rule FAMILY count in FAMILY daddr ADDR counter
					`), "nft", "-f", "-")
					fd := l.remote.raw(t, family, forged.protocol)
					send(t, fd, to.Addr(), forged.packet)
					receive(t, fd, family, brief, func([]byte) bool { return false })
					got := regexp.MustCompile(`counter packets (\d+)`).FindStringSubmatch(l.node.Run(t, "nft", "list", "table", familyName(a), "count"))
					if got == nil || got[1] != "1" {
						t.Errorf("one packet crossed the node %q times", got)
					}
				})
			}
		}
	}
}

// spec 100: a segment that opens no connection, and belongs to none that connection
// tracking knows, is refused. Connection tracking adopts such a segment, so that it
// would else reach an endpoint that need not be the connection's.
func TestAdoptedSegmentReachesNoEndpoint(t *testing.T) {
	l := newLab(t)
	port := uint16(40300)
	for _, family := range bothFamilies {
		a := addressesOf(family)
		outside(t, a, func(t *testing.T, f *proxy.Frontend) {
			sync(t, l.engine, a.table(f))
			in := l.podA.raw(t, family, unix.IPPROTO_TCP)
			for name, from := range map[string]struct {
				space
				addr netip.Addr
			}{"client": {l.client, a.client}, "podB": {l.podB, a.podB}} {
				port++
				from, s := netip.AddrPortFrom(from.addr, port), from.space
				out := s.raw(t, family, unix.IPPROTO_TCP)
				send(t, out, a.address(f).Addr(), segment(from, a.address(f), 1<<20, 1<<20, flagAck, "adopted"))
				if got := receive(t, out, family, patient, reset(f.Port)); got == nil {
					t.Errorf("%s: no reset", name)
				}
				if got := receive(t, in, family, brief, func(b []byte) bool { return bytes.Contains(b, []byte("adopted")) }); got != nil {
					t.Errorf("%s: the endpoint received % x", name, got)
				}
				// The port works at once for a connection.
				c, err := s.dial("tcp", a.address(f), from, patient)
				if err != nil {
					t.Errorf("%s: afterwards: %v", name, err)
					continue
				}
				if got, err := say(c, patient); err != nil || !strings.HasPrefix(got, "podA ") {
					t.Errorf("%s: afterwards: %q, %v", name, got, err)
				}
				c.Close()
			}
		})
	}
}
