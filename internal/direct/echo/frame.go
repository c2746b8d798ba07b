package echo

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Types of ICMP: an answer to a ping, which a kernel that sent none ignores.
const (
	echoReply  = 0
	echoReply6 = 129
)

// A frame is Ethernet, IP and an answer to a ping with identifier, whose data is body.
const (
	identifier = 0xfa1d
	magic      = "fairlead"
	bodyLength = len(magic) + 2 + 8 // and a word, a kind, a nonce
	ethernet   = 14
	ipv4Header = 20
	ipv6Header = 40
	icmpHeader = 8
)

// word is what a frame says.
type word uint8

const (
	hello word = iota // "did this come?"
	came
)

// frame is what nodes send each other.
type frame struct {
	from, to   net.HardwareAddr
	source, ip netip.Addr // of one family
	word       word
	kind       kind
	nonce      uint64
}

func (f frame) bytes() []byte {
	b := append(append([]byte{}, f.to...), f.from...)
	icmp := make([]byte, icmpHeader, icmpHeader+bodyLength)
	binary.BigEndian.PutUint16(icmp[4:], identifier)
	icmp = append(append(icmp, magic...), byte(f.word), byte(f.kind))
	icmp = binary.BigEndian.AppendUint64(icmp, f.nonce)
	if f.ip.Is6() {
		icmp[0] = echoReply6
		h := make([]byte, ipv6Header)
		h[0], h[6], h[7] = 0x60, unix.IPPROTO_ICMPV6, 64
		binary.BigEndian.PutUint16(h[4:], uint16(len(icmp)))
		copy(h[8:], f.source.AsSlice())
		copy(h[24:], f.ip.AsSlice())
		pseudo := uint32(len(icmp) + unix.IPPROTO_ICMPV6)
		binary.BigEndian.PutUint16(icmp[2:], ^sum(sum32(pseudo, h[8:]), icmp))
		return append(append(append(b, 0x86, 0xdd), h...), icmp...)
	}
	binary.BigEndian.PutUint16(icmp[2:], ^sum(0, icmp))
	h := make([]byte, ipv4Header)
	h[0], h[8], h[9] = 0x45, 64, unix.IPPROTO_ICMP
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(icmp)))
	copy(h[12:], f.source.AsSlice())
	copy(h[16:], f.ip.AsSlice())
	binary.BigEndian.PutUint16(h[10:], ^sum(0, h))
	return append(append(append(b, 8, 0), h...), icmp...)
}

// sum32 adds the words of b, whose length is even, to s.
func sum32(s uint32, b []byte) uint32 {
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return s
}

// sum is a checksum by RFC 1071 that is not yet inverted.
func sum(s uint32, b []byte) uint16 {
	s = sum32(s, b)
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// parse reads a frame. It returns false for one of somebody else.
func parse(b []byte) (f frame, ok bool) {
	at := ethernet + ipv4Header
	if len(b) > ethernet && b[12] == 0x86 {
		at = ethernet + ipv6Header
	}
	if len(b) < at+icmpHeader+bodyLength || binary.BigEndian.Uint16(b[at+4:]) != identifier {
		return f, false
	}
	body := b[at+icmpHeader:]
	if string(body[:len(magic)]) != magic {
		return f, false
	}
	body = body[len(magic):]
	f = frame{to: b[:6:6], from: b[6:12:12], word: word(body[0]), kind: kind(body[1]), nonce: binary.BigEndian.Uint64(body[2:])}
	return f, f.word <= came && f.kind < kinds
}

// filter has a socket of a family hear such frames alone.
func filter(v6 bool) ([]bpf.RawInstruction, error) {
	protocol, number, at, reply := uint32(23), uint32(unix.IPPROTO_ICMP), uint32(ethernet+ipv4Header), uint32(echoReply)
	if v6 {
		protocol, number, at, reply = 20, unix.IPPROTO_ICMPV6, ethernet+ipv6Header, echoReply6
	}
	return bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: protocol, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: number, SkipTrue: 5},
		bpf.LoadAbsolute{Off: at, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: reply, SkipTrue: 3},
		bpf.LoadAbsolute{Off: at + 4, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: identifier, SkipTrue: 1},
		bpf.RetConstant{Val: 256},
		bpf.RetConstant{Val: 0},
	})
}
