package netlink

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// raw opens a raw socket in the namespace that sees and sends what is in packets
// of one protocol, without the IP header.
func (s space) raw(t *testing.T, family snapshot.Family, protocol int) int {
	t.Helper()
	fd := -1
	s.Do(t, func() (err error) {
		domain := unix.AF_INET
		if family == snapshot.IPv6 {
			domain = unix.AF_INET6
		}
		fd, err = unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
		return err
	})
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func send(t *testing.T, fd int, to netip.Addr, payload []byte) {
	t.Helper()
	var sa unix.Sockaddr = &unix.SockaddrInet6{Addr: to.As16()}
	if to.Is4() {
		sa = &unix.SockaddrInet4{Addr: to.As4()}
	}
	if err := unix.Sendto(fd, payload, 0, sa); err != nil {
		t.Fatal(err)
	}
}

// receive returns the next payload that match says; nil if none comes in time.
func receive(t *testing.T, fd int, family snapshot.Family, wait time.Duration, match func([]byte) bool) []byte {
	t.Helper()
	b := make([]byte, 1<<16)
	for deadline := time.Now().Add(wait); time.Now().Before(deadline); {
		tv := unix.NsecToTimeval(int64(50 * time.Millisecond))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			t.Fatal(err)
		}
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			continue
		}
		payload := b[:n]
		if family == snapshot.IPv4 { // a raw IPv4 socket receives the header too
			payload = payload[int(payload[0]&15)*4:]
		}
		if match(payload) {
			return payload
		}
	}
	return nil
}

// segment is a TCP segment with a valid checksum.
func segment(from, to netip.AddrPort, seq, ack uint32, flags byte, data string) []byte {
	b := make([]byte, 20, 20+len(data))
	binary.BigEndian.PutUint16(b, from.Port())
	binary.BigEndian.PutUint16(b[2:], to.Port())
	binary.BigEndian.PutUint32(b[4:], seq)
	binary.BigEndian.PutUint32(b[8:], ack)
	b[12], b[13] = 5<<4, flags
	binary.BigEndian.PutUint16(b[14:], 1000)
	b = append(b, data...)
	pseudo := append(from.Addr().AsSlice(), to.Addr().AsSlice()...)
	pseudo = append(pseudo, 0, unix.IPPROTO_TCP, 0, byte(len(b)))
	sum := uint32(0)
	for _, part := range [][]byte{pseudo, b} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(append(part[i:len(part):len(part)], 0)))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[16:], ^uint16(sum))
	return b
}

// spec 85: a packet of an endpoint that is outside of its connection's window is
// not translated back, because connection tracking does not know it. It must not
// reach the client under the endpoint's own address: the client would answer with
// a reset, which ends the connection.
func TestPacketOutsideOfTheWindow(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		t.Run(family.String(), func(t *testing.T) {
			a := addressesOf(family)
			f := a.front(proxy.ClusterIP, "tcp", a.podA)
			sync(t, l.engine, a.table(f))
			const port = 40050
			c, err := l.podB.dial("tcp", a.address(f), netip.AddrPortFrom(a.podB, port), patient)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if got, err := say(c, patient); err != nil {
				t.Fatal(got, err)
			}
			out, in := l.podA.raw(t, family, unix.IPPROTO_TCP), l.podB.raw(t, family, unix.IPPROTO_TCP)
			const ack = 0x10
			from, to := a.ep(a.podA), netip.AddrPortFrom(a.podB, port)
			for seq := range uint32(4) { // at most one of them is in the window
				send(t, out, a.podB, segment(from, to, seq<<30, 1, ack, "hello"))
			}
			untranslated := func(b []byte) bool { return binary.BigEndian.Uint16(b) == from.Port() }
			if got := receive(t, in, family, brief, untranslated); got != nil {
				t.Errorf("the client received % x", got)
			}
			if got, err := say(c, patient); err != nil || got != "podA "+a.podB.String() {
				t.Errorf("afterwards: %q, %v", got, err)
			}
		})
	}
}

// initChunk is an SCTP packet that opens an association.
func initChunk(from, to uint16) []byte {
	b := make([]byte, 12+20)
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	chunk := b[12:]
	chunk[0] = 1 // INIT
	binary.BigEndian.PutUint16(chunk[2:], 20)
	binary.BigEndian.PutUint32(chunk[4:], 0x01020304) // initiate tag
	binary.BigEndian.PutUint32(chunk[8:], 65536)      // window
	binary.BigEndian.PutUint16(chunk[12:], 1)         // streams
	binary.BigEndian.PutUint16(chunk[14:], 1)
	binary.BigEndian.PutUint32(chunk[16:], 0x05060708) // first TSN
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// spec 5: the packet that opens an SCTP association reaches the endpoint on the
// endpoint's port, with a checksum that is right. Raw packets, because not every
// kernel has SCTP sockets.
func TestSCTP(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		a := addressesOf(family)
		for _, kind := range []proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.NodePort} {
			t.Run(family.String()+"/"+kind.String(), func(t *testing.T) {
				f := a.front(kind, "sctp", a.podA)
				sync(t, l.engine, a.table(f))
				out, in := l.client.raw(t, family, unix.IPPROTO_SCTP), l.podA.raw(t, family, unix.IPPROTO_SCTP)
				send(t, out, a.address(f).Addr(), initChunk(40060, f.Port))
				got := receive(t, in, family, patient, func(b []byte) bool { return b[12] == 1 })
				if got == nil {
					t.Fatal("nothing arrived")
				}
				if port := binary.BigEndian.Uint16(got[2:]); port != 8080 {
					t.Errorf("sent to port %d, want 8080", port)
				}
				want := binary.LittleEndian.Uint32(got[8:])
				copy(got[8:], make([]byte, 4))
				if sum := crc32.Checksum(got, crc32.MakeTable(crc32.Castagnoli)); sum != want {
					t.Errorf("checksum %x, want %x", sum, want)
				}
			})
		}
	}
}
