package client

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// place is where a station is.
type place struct {
	link   string
	family snapshot.Family
}

// heard is a packet that came in at a place.
type heard struct {
	place
	packet []byte
}

// longestPacket is how much of a packet is read: servers answer with 576 bytes, or with
// what fits in a frame.
const longestPacket = 1500

// station sends and hears DHCP of one family on one link. It is a packet socket: that
// needs CAP_NET_RAW alone, works beside the host's own DHCP client, and takes in answers
// to a client without an address.
type station struct {
	conn *packet.Conn
	to   net.HardwareAddr // of the servers
	from netip.Addr       // link-local, of IPv6
}

// open makes the station of at, in the network namespace of the calling thread.
func open(at place) (*station, error) {
	ifi, err := net.InterfaceByName(at.link)
	if err != nil {
		return nil, fmt.Errorf("find link %s: %w", at.link, err)
	}
	s := &station{to: net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	kind, program := unix.ETH_P_IP, filter4
	if at.family == snapshot.IPv6 {
		kind, program = unix.ETH_P_IPV6, filter6
		s.to = net.HardwareAddr{0x33, 0x33, 0, 1, 0, 2} // of the group ff02::1:2 (RFC 2464)
		if s.from, err = linkLocal(ifi); err != nil {
			return nil, err
		}
	}
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, fmt.Errorf("socket filter: %w", err)
	}
	if s.conn, err = packet.Listen(ifi, packet.Datagram, kind, &packet.Config{Filter: raw}); err != nil {
		return nil, fmt.Errorf("open packet socket on %s: %w", at.link, err)
	}
	return s, nil
}

// listen gives what comes in to in until the station is closed, and drops it while in is full.
func (s *station) listen(at place, in chan<- heard) {
	for {
		buf := make([]byte, longestPacket)
		n, _, err := s.conn.ReadFrom(buf)
		switch {
		case errors.Is(err, unix.ENETDOWN):
			continue // the link was set down, once
		case err != nil:
			return
		}
		select {
		case in <- heard{at, buf[:n]}:
		default: // servers are asked again
		}
	}
}

func (s *station) send(packetBytes []byte) error {
	if _, err := s.conn.WriteTo(packetBytes, &packet.Addr{HardwareAddr: s.to}); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// linkLocal returns an IPv6 address of the link, to which servers answer.
func linkLocal(ifi *net.Interface) (netip.Addr, error) {
	addrs, err := ifi.Addrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("addresses of %s: %w", ifi.Name, err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
			return p.Addr().WithZone(""), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("link %s has no link-local IPv6 address", ifi.Name)
}

// otherHost is the type of a packet for another host, such as one of a VLAN that the node
// does not have (PACKET_OTHERHOST of the kernel).
const otherHost = 3

// filter4 lets through what is for the port of a client, without fragments.
var filter4 = []bpf.Instruction{
	bpf.LoadExtension{Num: bpf.ExtType},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: otherHost, SkipTrue: 7},
	bpf.LoadAbsolute{Off: 9, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoUDP, SkipTrue: 5},
	bpf.LoadAbsolute{Off: 6, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x3fff, SkipTrue: 3},
	bpf.LoadMemShift{Off: 0},
	bpf.LoadIndirect{Off: 2, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: client4, SkipTrue: 1},
	bpf.RetConstant{Val: 0},
	bpf.RetConstant{Val: longestPacket},
}

// filter6 is filter4 for IPv6, without extension headers, which servers do not send.
var filter6 = []bpf.Instruction{
	bpf.LoadExtension{Num: bpf.ExtType},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: otherHost, SkipTrue: 4},
	bpf.LoadAbsolute{Off: 6, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoUDP, SkipTrue: 2},
	bpf.LoadAbsolute{Off: ip6Len + 2, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: client6, SkipTrue: 1},
	bpf.RetConstant{Val: 0},
	bpf.RetConstant{Val: longestPacket},
}
