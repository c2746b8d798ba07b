package netlink

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
)

// forge sends the first packet of a UDP flow from each of some sources that do not
// exist.
func (s space) forge(t *testing.T, a addressing, to netip.AddrPort, first, n int) {
	t.Helper()
	s.Do(t, func() error {
		domain := unix.AF_INET
		if a.family == snapshot.IPv6 {
			domain = unix.AF_INET6
		}
		fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		var sa unix.Sockaddr = &unix.SockaddrInet6{Addr: to.Addr().As16()}
		if to.Addr().Is4() {
			sa = &unix.SockaddrInet4{Addr: to.Addr().As4()}
		}
		for i := first; i < first+n; i++ {
			for unix.Sendto(fd, datagram(numbered(a.family, 64, i), to), 0, sa) == unix.ENOBUFS {
			}
		}
		return nil
	})
}

// datagram is an IP packet with an empty UDP datagram.
func datagram(from netip.Addr, to netip.AddrPort) []byte {
	udp := make([]byte, 8)
	binary.BigEndian.PutUint16(udp, 1000)
	binary.BigEndian.PutUint16(udp[2:], to.Port())
	binary.BigEndian.PutUint16(udp[4:], 8)
	if from.Is4() {
		b := make([]byte, 20)
		b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_UDP
		copy(b[12:], from.AsSlice())
		copy(b[16:], to.Addr().AsSlice())
		return append(b, udp...) // the kernel adds the length and the checksum
	}
	b := make([]byte, 40)
	b[0], b[5], b[6], b[7] = 0x60, 8, unix.IPPROTO_UDP, 64
	copy(b[8:], from.AsSlice())
	copy(b[24:], to.Addr().AsSlice())
	pseudo := append(append(from.AsSlice(), to.Addr().AsSlice()...), 0, 0, 0, 8, 0, 0, 0, unix.IPPROTO_UDP)
	sum := uint32(0)
	for _, part := range [][]byte{pseudo, udp} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], ^uint16(sum))
	return append(b, udp...)
}

// spec 101: 65,535 forged clients of one Service take no memory from another: its
// clients keep their endpoints, and new ones are remembered. Neither do they switch the
// affinity of their own Service off: its clients keep their endpoints, and new ones
// always get the same.
func TestForgedClients(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	const enough = 4 * 2048 // to fill the share of a Service
	for family, forged := range map[snapshot.Family]int{snapshot.IPv4: max(nstest.Few(65_535), enough), snapshot.IPv6: max(nstest.Few(8*2048), enough)} {
		t.Run(family.String(), func(t *testing.T) {
			a := addressesOf(family)
			attacked := sticky(a.front(proxy.VIP, "udp", a.podA, a.podB), 3*time.Hour)
			other := sticky(a.front(proxy.VIP, "tcp", a.podA, a.podB, a.remote), 3*time.Hour)
			np := sticky(a.front(proxy.NodePort, "udp", a.podA, a.podB), 3*time.Hour)
			sync(t, l.engine, a.table(other, attacked, np))
			stays := func(what string, f *proxy.Frontend, network string, src netip.Addr, first string) string {
				t.Helper()
				for range 12 {
					got := l.client.outcome(network, a.address(f), netip.AddrPortFrom(src, 0), patient)
					if first == "" {
						first = got
					}
					if got != first {
						t.Fatalf("%s: got %q after %q", what, got, first)
					}
				}
				return first
			}
			mine := stays("attacked, before", attacked, "udp", a.client, "")
			others := stays("another, before", other, "tcp", a.client, "")
			l.client.forge(t, a, a.address(np), 0, forged/5)
			for part := range 5 {
				l.client.forge(t, a, a.address(attacked), forged/5*part, forged/5)
				// Their flows end, so that the node has room for others.
				l.node.Run(t, "conntrack", "-F")
				stays("attacked", attacked, "udp", a.client, mine)
				stays("another", other, "tcp", a.client, others)
			}
			stays("attacked, a new client", attacked, "udp", a.client2, "")
			stays("attacked, a new client of the node port", np, "udp", a.client2, "")
			stays("another, a new client", other, "tcp", a.client2, "")
			if n := l.remembered(t, a, other); n != 2 {
				t.Errorf("%d clients of another Service are remembered, want 2", n)
			}
			if n := l.remembered(t, a, attacked); n > 2*2048 || n < 2048 {
				t.Errorf("%d clients of the attacked Service are remembered", n)
			}
			sync(t, l.engine, a.table())
		})
	}
}

// remembered counts the clients of a Frontend that the kernel remembers.
func (l *lab) remembered(t *testing.T, a addressing, f *proxy.Frontend) int {
	t.Helper()
	n := 0
	for i := range f.Cluster {
		for word := range strings.FieldsSeq(l.node.Run(t, "nft", "list", "set", familyName(a), "fairlead", fmt.Sprintf("affinity-%d", i))) {
			if word == fmt.Sprint(f.Protocol) {
				n++
			}
		}
	}
	return n
}
