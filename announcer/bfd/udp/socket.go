package udp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer/bfd"
)

// port is one of the sockets that packets come in by.
type port struct {
	number int
	six    bool
}

// The ports (RFC 5881 section 4, RFC 5883 section 5), and those that packets
// are sent from.
const (
	singleHop   = 3784
	multiHop    = 4784
	firstSource = 49152
	sources     = 16384
	ttl         = 255
	// rcvbuf holds what comes in while the node is too busy to read: thousands
	// of packets.
	rcvbuf = 1 << 20
)

func portOf(p Peer) port {
	if p.Multihop {
		return port{multiHop, p.Addr.Is6()}
	}
	return port{singleHop, p.Addr.Is6()}
}

// received is what the kernel is to tell of packets, by family: IPv6 or not.
var received = map[bool][]struct{ level, name int }{
	false: {{unix.IPPROTO_IP, unix.IP_RECVTTL}, {unix.IPPROTO_IP, unix.IP_PKTINFO}},
	true:  {{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT}, {unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO}},
}

// listen opens the socket for p unless it is open.
func (s *Speaker) listen(p port) error {
	if _, open := s.thread.sockets[p]; open {
		return nil
	}
	fd, err := socket(p.six)
	if err != nil {
		return err
	}
	set := []error{
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, rcvbuf),
	}
	for _, option := range received[p.six] {
		set = append(set, unix.SetsockoptInt(fd, option.level, option.name, 1))
	}
	var any unix.Sockaddr = &unix.SockaddrInet4{Port: p.number}
	if p.six {
		any = &unix.SockaddrInet6{Port: p.number}
	}
	if err := errors.Join(append(set, unix.Bind(fd, any))...); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("port %d: %w", p.number, err)
	}
	s.thread.sockets[p] = fd
	return nil
}

func (s *Speaker) closeSockets() {
	for p, fd := range s.thread.sockets {
		_ = unix.Close(fd)
		delete(s.thread.sockets, p)
	}
}

func socket(six bool) (int, error) {
	family := unix.AF_INET
	if six {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	// IPv4 has a socket of its own at the same port.
	if six {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			_ = unix.Close(fd)
			return -1, fmt.Errorf("socket: %w", err)
		}
	}
	return fd, nil
}

// dial opens the socket that a session sends by: from a port of the range that
// RFC 5881 section 4 asks for, with TTL 255 (section 5).
func dial(p Peer) (int, error) {
	fd, err := socket(p.Addr.Is6())
	if err != nil {
		return -1, err
	}
	if p.Addr.Is6() {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, ttl)
	} else {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, ttl)
	}
	if err == nil {
		err = bindSource(fd, p)
	}
	if err == nil {
		err = unix.Connect(fd, sockaddr(p.Addr, portOf(p).number))
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("socket to %s: %w", p.Addr, err)
	}
	return fd, nil
}

func bindSource(fd int, p Peer) error {
	source := p.Source
	switch {
	case source.IsValid():
	case p.Addr.Is6():
		source = netip.IPv6Unspecified()
	default:
		source = netip.IPv4Unspecified()
	}
	var err error
	for range 100 {
		err = unix.Bind(fd, sockaddr(source, firstSource+rand.IntN(sources)))
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return err
}

func sockaddr(a netip.Addr, number int) unix.Sockaddr {
	if a.Is6() {
		return &unix.SockaddrInet6{Addr: a.As16(), Port: number, ZoneId: zoneID(a)}
	}
	return &unix.SockaddrInet4{Addr: a.As4(), Port: number}
}

// zoneID is the index of the link that a link-local address is on; 0: none.
func zoneID(a netip.Addr) uint32 {
	if a.Zone() == "" {
		return 0
	}
	l, err := net.InterfaceByName(a.Zone())
	if err != nil {
		return 0 // the kernel refuses it then
	}
	return uint32(l.Index)
}

// send sends what it can: a packet that the kernel refuses is one that is lost.
func (p *path) send(packets []bfd.Packet) {
	for _, x := range packets {
		if _, err := unix.Write(p.fd, x.Encode()); errors.Is(err, unix.ECONNREFUSED) {
			_, _ = unix.Write(p.fd, x.Encode()) // the error was that of the packet before
		}
	}
}

// wait returns when a packet has come, a session is due, or Sync has spoken.
func (s *Speaker) wait() {
	fds := []unix.PollFd{{Fd: int32(s.wake), Events: unix.POLLIN}}
	for _, fd := range s.thread.sockets {
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	ts := unix.NsecToTimespec(int64(s.pause(time.Now())))
	_, _ = unix.Ppoll(fds, &ts, nil) // interrupted: the loop looks again anyway
	var b [8]byte
	_, _ = unix.Read(s.wake, b[:])
}

// drained bounds what is read before the timers are looked at: a flood must not
// keep the sessions from speaking.
const drained = 4096

func (s *Speaker) drain() {
	for p, fd := range s.thread.sockets {
		for range drained {
			if !s.read(p, fd) {
				break
			}
		}
	}
}

// read takes one packet in, and reports whether there was one.
func (s *Speaker) read(p port, fd int) bool {
	n, oobn, _, from, err := unix.Recvmsg(fd, s.thread.buf, s.thread.oob, 0)
	if err != nil {
		return errors.Is(err, unix.EINTR)
	}
	a := arrived(s.thread.oob[:oobn])
	a.multihop = p.number == multiHop
	switch addr := from.(type) {
	case *unix.SockaddrInet4:
		a.from = netip.AddrFrom4(addr.Addr)
	case *unix.SockaddrInet6:
		a.from = netip.AddrFrom16(addr.Addr)
		if a.from.IsLinkLocalUnicast() {
			a.from = a.from.WithZone(s.linkName(a.link))
		}
	}
	s.receive(s.thread.buf[:n], a, time.Now())
	return true
}

// arrived reads the TTL of a packet and the link that it came by.
func arrived(oob []byte) (a arrival) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return a
	}
	for _, m := range messages {
		switch kind := [2]int32{m.Header.Level, m.Header.Type}; {
		case kind == [2]int32{unix.IPPROTO_IP, unix.IP_TTL} && len(m.Data) >= 4, kind == [2]int32{unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT} && len(m.Data) >= 4:
			a.ttl = int(binary.NativeEndian.Uint32(m.Data))
		case kind == [2]int32{unix.IPPROTO_IP, unix.IP_PKTINFO} && len(m.Data) >= unix.SizeofInet4Pktinfo:
			a.link = int(binary.NativeEndian.Uint32(m.Data)) // ipi_ifindex is its first field
		case kind == [2]int32{unix.IPPROTO_IPV6, unix.IPV6_PKTINFO} && len(m.Data) >= unix.SizeofInet6Pktinfo:
			a.link = int(binary.NativeEndian.Uint32(m.Data[16:])) // ipi6_ifindex is after the address
		}
	}
	return a
}
