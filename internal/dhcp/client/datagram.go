package client

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// The ports of DHCP, and how long headers are.
const (
	server4, client4 = 67, 68
	server6, client6 = 547, 546

	ip4Len, ip6Len, udpLen = 20, 40, 8
	protoUDP               = 17
	hops                   = 64
)

var errForeign = errors.New("it is not a datagram for a DHCP client")

// datagram is one UDP datagram with its IP header: packets are sent and received without a
// UDP socket, because the host may run a DHCP client of its own, which has the port.
type datagram struct {
	from, to netip.AddrPort
	payload  []byte
}

// marshal returns the packet, with both checksums.
func (d datagram) marshal() []byte {
	length := udpLen + len(d.payload)
	head := ip6Len
	if d.to.Addr().Is4() {
		head = ip4Len
	}
	b := make([]byte, head+length)
	src, dst := d.from.Addr().AsSlice(), d.to.Addr().AsSlice()
	if head == ip4Len {
		b[0], b[8], b[9] = 4<<4|ip4Len/4, hops, protoUDP
		binary.BigEndian.PutUint16(b[2:], uint16(len(b))) //nolint:gosec // a message has less than 1500 bytes
		copy(b[12:], src)
		copy(b[16:], dst)
		binary.BigEndian.PutUint16(b[10:], ^sum(0, b[:ip4Len]))
	} else {
		b[0], b[6], b[7] = 6<<4, protoUDP, hops
		binary.BigEndian.PutUint16(b[4:], uint16(length)) //nolint:gosec // as above
		copy(b[8:], src)
		copy(b[24:], dst)
	}
	udp := b[head:]
	binary.BigEndian.PutUint16(udp, d.from.Port())
	binary.BigEndian.PutUint16(udp[2:], d.to.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(length)) //nolint:gosec // as above
	copy(udp[udpLen:], d.payload)
	pseudo := uint32(protoUDP) + uint32(length) //nolint:gosec // as above
	check := ^sum(uint32(sum(uint32(sum(pseudo, src)), dst)), udp)
	if check == 0 {
		check = 0xffff // 0 means that the sender computed no checksum (RFC 768)
	}
	binary.BigEndian.PutUint16(udp[6:], check)
	return b
}

// sum is the one's complement sum of b, begun with from.
func sum(from uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		from += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		from += uint32(b[0]) << 8
	}
	for from > 0xffff {
		from = from&0xffff + from>>16
	}
	return uint16(from) //nolint:gosec // folded above
}

// parse reads a packet for the port of a client. It does not look at the UDP checksum: over
// a veth the kernel leaves it to hardware that is not there.
func parse(b []byte) (d datagram, err error) {
	udp, port := []byte(nil), uint16(client4)
	switch {
	case len(b) >= ip4Len && b[0]>>4 == 4:
		head := int(b[0]&15) * 4
		total := int(binary.BigEndian.Uint16(b[2:]))
		fragment := binary.BigEndian.Uint16(b[6:])&0x3fff != 0
		if head < ip4Len || total < head || total > len(b) || b[9] != protoUDP || fragment {
			return d, errForeign
		}
		d.from = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:16])), 0)
		udp = b[head:total]
	case len(b) >= ip6Len && b[0]>>4 == 6:
		total := ip6Len + int(binary.BigEndian.Uint16(b[4:]))
		if total > len(b) || b[6] != protoUDP {
			return d, errForeign
		}
		d.from = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), 0)
		udp, port = b[ip6Len:total], client6
	}
	if len(udp) < udpLen || binary.BigEndian.Uint16(udp[2:]) != port {
		return d, errForeign
	}
	length := int(binary.BigEndian.Uint16(udp[4:]))
	if length < udpLen || length > len(udp) {
		return d, errForeign
	}
	d.payload = udp[udpLen:length]
	return d, nil
}
