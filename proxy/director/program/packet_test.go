package program

import (
	"encoding/binary"
	"net/netip"
)

// Flags of TCP.
const (
	fin = 1
	syn = 2
	rst = 4
	ack = 16
)

// Protocols, as IANA numbers them.
const (
	icmp   = 1
	tcp    = 6
	udp    = 17
	icmpv6 = 58
	sctp   = 132
)

// packet is what a test sends. The zero value of what is not set is the plain case.
type packet struct {
	from, to netip.AddrPort
	proto    uint8
	flags    uint8 // of TCP
	ttl      uint8
	id       uint16  // of IPv4
	fragment uint16  // the word of IPv4, or of the header of IPv6
	option   bool    // an IP option, or a header of options
	about    *packet // it is an ICMP error about this packet
	errType  uint8   // 0: unreachable
	inVLAN   bool
	to0      bool   // not for this host: the destination's MAC is another
	short    int    // cut to this many bytes
	more     int    // bytes behind its header
	asks     bool   // behind a header, it is what an agent asks another
	raw      []byte // what is behind the header of IP
}

// bytes is the packet on Ethernet.
func (p packet) bytes(src, dst MAC) []byte {
	if p.to0 {
		dst = MAC{2, 0xff}
	}
	b := append(append([]byte{}, dst[:]...), src[:]...)
	if p.inVLAN {
		b = append(b, 0x81, 0, 0, 7)
	}
	if p.v6() {
		b = append(b, 0x86, 0xdd)
	} else {
		b = append(b, 8, 0)
	}
	b = append(b, p.ip()...)
	if p.short > 0 {
		b = b[:p.short]
	}
	return b
}

func (p packet) v6() bool { return p.to.Addr().Is6() }

// number is the packet's protocol number: an error is one of ICMP.
func (p packet) number() uint8 {
	switch {
	case p.about == nil:
		return p.proto
	case p.v6():
		return icmpv6
	}
	return icmp
}

func (p packet) ip() []byte {
	if p.v6() {
		return p.ip6()
	}
	body := p.body()
	h := make([]byte, 20)
	h[0] = 0x45
	if p.option {
		h = append(h, 1, 1, 1, 0) // no operation, end
		h[0] = 0x46
	}
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(body)))
	binary.BigEndian.PutUint16(h[4:], p.id)
	binary.BigEndian.PutUint16(h[6:], p.fragment)
	h[8], h[9] = p.ttl, p.number()
	copy(h[12:], p.from.Addr().AsSlice())
	copy(h[16:], p.to.Addr().AsSlice())
	binary.BigEndian.PutUint16(h[10:], ^sum(h))
	return append(h, body...)
}

// sum is the sum of a header by the arithmetic of RFC 1071: 0xffff of a good one.
func sum(h []byte) uint16 {
	s := uint32(0)
	for i := 0; i+1 < len(h); i += 2 {
		s += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func (p packet) ip6() []byte {
	body, number := p.body(), p.number()
	switch {
	case p.option:
		body = append([]byte{number, 0, 1, 4, 0, 0, 0, 0}, body...)
		number = 0
	case p.fragment != 0:
		body = append([]byte{number, 0, byte(p.fragment >> 8), byte(p.fragment), 0, 0, 0, 7}, body...)
		number = 44
	}
	h := make([]byte, 40)
	h[0] = 0x60
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
	h[6], h[7] = number, p.ttl
	copy(h[8:], p.from.Addr().AsSlice())
	copy(h[24:], p.to.Addr().AsSlice())
	return append(h, body...)
}

func (p packet) body() []byte {
	if p.raw != nil {
		return p.raw
	}
	if p.about != nil {
		kind := p.errType
		if kind == 0 {
			kind = 3
			if p.v6() {
				kind = 2 // too big
			}
		}
		return append([]byte{kind, 4, 0, 0, 0, 0, 5, 20}, p.about.ip()[:p.about.quoted()]...)
	}
	b := make([]byte, 20+p.more)
	binary.BigEndian.PutUint16(b, p.from.Port())
	binary.BigEndian.PutUint16(b[2:], p.to.Port())
	if p.proto == tcp {
		b[12], b[13] = 0x50, p.flags
	}
	return b
}

// quoted is how much of a packet an error has at least: its header and 8 bytes.
func (p packet) quoted() int {
	if p.v6() {
		return 48
	}
	return 28
}

// back is a packet that the VIP sent in answer to p.
func (p packet) back() *packet {
	p.from, p.to = p.to, p.from
	p.ttl = 60
	return &p
}
