package netlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/proxy/nftables"
)

// tell has the clients of TCP connections that have just ended learn that at once. A client
// that waits for an answer sends nothing, so that nothing could be refused. To tell is a
// segment that is outside of any window: the client answers it with its own state
// (RFC 5961 section 4.2), and that answer belongs to no connection any more and is refused
// with a reset that the client accepts.
//
// The segment has SYN and FIN. Connection tracking takes it for invalid, and so does not
// make a new connection of it, to which the client's answer would belong.
func (c *conn) tell(ctx context.Context, ended []tracked) error {
	var errs []error
	for _, f := range nftables.Families {
		var open []nftables.Flow
		for _, t := range ended {
			if t.Open() && t.Client.Is4() == (f == nftables.IP4) {
				open = append(open, t.Flow)
			}
		}
		if len(open) > 0 {
			errs = append(errs, c.tellAll(ctx, f, open))
		}
	}
	return errors.Join(errs...)
}

func (c *conn) tellAll(ctx context.Context, f *nftables.Family, open []nftables.Flow) error {
	domain := unix.AF_INET
	if f == nftables.IP6 {
		domain = unix.AF_INET6
	}
	// With this protocol what is sent begins with its IP header: the source is a VIP.
	s, err := socket.Socket(domain, unix.SOCK_RAW, unix.IPPROTO_RAW, "tell", &socket.Config{NetNS: c.netns})
	if err != nil {
		return fmt.Errorf("tell clients that their connections ended: %w", err)
	}
	defer func() { _ = s.Close() }()
	var last error
	for _, flow := range open {
		client := netip.AddrPortFrom(flow.Client, flow.ClientPort)
		if err := s.Sendto(ctx, packetTo(client, flow.To), 0, sockaddr(client.Addr())); err != nil {
			last = fmt.Errorf("tell %s that its connection ended: %w", client, err)
		}
	}
	return last
}

func sockaddr(a netip.Addr) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Addr: a.As16()}
}

// packetTo is the packet of tell.
func packetTo(client, from netip.AddrPort) []byte {
	const syn, fin, ack, hops = 0x02, 0x01, 0x10, 64
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp, from.Port())
	binary.BigEndian.PutUint16(tcp[2:], client.Port())
	tcp[12], tcp[13] = 5<<4, syn|fin|ack
	src, dst := from.Addr().AsSlice(), client.Addr().AsSlice()
	pseudo := append(append(append([]byte{}, src...), dst...), 0, unix.IPPROTO_TCP, 0, byte(len(tcp)))
	binary.BigEndian.PutUint16(tcp[16:], checksum(append(pseudo, tcp...)))
	var ip []byte
	if from.Addr().Is4() {
		ip = make([]byte, 12) // the kernel fills in the checksum and the identification
		ip[0], ip[8], ip[9] = 0x45, hops, unix.IPPROTO_TCP
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(tcp)))
	} else {
		ip = make([]byte, 8)
		ip[0], ip[5], ip[6], ip[7] = 0x60, byte(len(tcp)), unix.IPPROTO_TCP, hops
	}
	return append(append(append(ip, src...), dst...), tcp...)
}

// checksum is that of RFC 1071, over an even number of bytes.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
