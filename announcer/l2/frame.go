package l2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
)

// Lengths and numbers of Ethernet, IPv6 (RFC 8200) and ICMPv6 (RFC 4443).
const (
	etherLen     = 14
	ipv6Len      = 40
	protoICMPv6  = 58
	ndpHopLimit  = 255 // RFC 4861 section 7.1: whatever came through a router is not believed
	hardwareMAC  = 1   // ARP's hardware type of Ethernet
	icmpSolicit  = 135
	icmpAdvert   = 136
	etherARP     = 0x0806
	etherIPv6    = 0x86dd
	longestFrame = 1514
)

// assertion is what one ARP or NDP frame says about an address: that a host has it,
// or that one asks whether anybody has it because it would like to.
type assertion struct {
	addr  netip.Addr
	mac   string // of that host
	probe bool   // it asks: RFC 5227 section 2.1.1, RFC 4862 section 5.4.3
}

// parse reads an Ethernet frame. It returns false for all that says nothing of
// whose an address is, ordinary requests among them, and all that is malformed.
func parse(frame []byte) (assertion, bool) {
	var f ethernet.Frame
	// A frame of a VLAN that the node does not have counted as a claim on the link below it.
	if f.UnmarshalBinary(frame) != nil || f.VLAN != nil || f.ServiceVLAN != nil {
		return assertion{}, false
	}
	switch f.EtherType {
	case ethernet.EtherTypeARP:
		return parseARP(f.Payload)
	case ethernet.EtherTypeIPv6:
		return parseNDP(f.Source, f.Payload)
	}
	return assertion{}, false
}

func parseARP(b []byte) (assertion, bool) {
	var p arp.Packet
	if p.UnmarshalBinary(b) != nil {
		return assertion{}, false
	}
	form := p.HardwareType == hardwareMAC && p.ProtocolType == uint16(ethernet.EtherTypeIPv4) && p.HardwareAddrLength == 6 && p.IPLength == 4
	if !form || p.Operation != arp.OperationRequest && p.Operation != arp.OperationReply || !unicast(p.SenderHardwareAddr) {
		return assertion{}, false
	}
	a := assertion{addr: p.SenderIP, mac: p.SenderHardwareAddr.String()}
	// An ARP probe has no sender, so that it changes no host's table: RFC 5227 section 2.1.1.
	if p.SenderIP.IsUnspecified() {
		a.addr, a.probe = p.TargetIP, true
	}
	ok := !a.addr.IsUnspecified() && (!a.probe || p.Operation == arp.OperationRequest)
	return a, ok
}

// parseNDP validates as RFC 4861 sections 7.1.1 and 7.1.2 demand.
func parseNDP(source net.HardwareAddr, b []byte) (assertion, bool) {
	if len(b) < ipv6Len || b[0]>>4 != 6 || b[6] != protoICMPv6 || b[7] != ndpHopLimit || !unicast(source) {
		return assertion{}, false
	}
	src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	size := int(binary.BigEndian.Uint16(b[4:6]))
	if len(b) < ipv6Len+size || size < 4 {
		return assertion{}, false
	}
	body := b[ipv6Len : ipv6Len+size]
	// RFC 4861 section 7.1.1 has both thrown away: otherwise a broken frame would be a conflict.
	if body[1] != 0 || checksum(src, dst, body) != 0 {
		return assertion{}, false
	}
	msg, err := ndp.ParseMessage(body)
	if err != nil {
		return assertion{}, false
	}
	switch m := msg.(type) {
	case *ndp.NeighborAdvertisement:
		mac, ok := target(m.Options, source)
		// An answer that was asked for does not go to a group: RFC 4861 section 7.1.2.
		ok = ok && !m.TargetAddress.IsMulticast() && !(dst.IsMulticast() && m.Solicited)
		return assertion{addr: m.TargetAddress, mac: mac}, ok
	case *ndp.NeighborSolicitation:
		group, err := ndp.SolicitedNodeMulticast(m.TargetAddress)
		// With a source it is an ordinary question, which the kernel answers.
		ok := err == nil && src.IsUnspecified() && dst == group && !m.TargetAddress.IsMulticast()
		return assertion{addr: m.TargetAddress, mac: source.String(), probe: true}, ok
	}
	return assertion{}, false
}

// target is the MAC that an advertisement names, or else that it came from.
func target(options []ndp.Option, source net.HardwareAddr) (string, bool) {
	for _, o := range options {
		if l, ok := o.(*ndp.LinkLayerAddress); ok && l.Direction == ndp.Target {
			return l.Addr.String(), unicast(l.Addr)
		}
	}
	// An answer to a host that knows the MAC may leave the option out: RFC 4861 section 4.4.
	return source.String(), true
}

func unicast(mac net.HardwareAddr) bool {
	return len(mac) == 6 && mac[0]&1 == 0 && !bytes.Equal(mac, make([]byte, 6))
}

// checksum is ICMPv6's (RFC 4443 section 2.3); it is 0 over a message that
// carries the right one.
func checksum(src, dst netip.Addr, body []byte) uint16 {
	pseudo := make([]byte, 0, ipv6Len+len(body))
	pseudo = append(append(pseudo, src.AsSlice()...), dst.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(body)))
	pseudo = append(append(pseudo, 0, 0, 0, protoICMPv6), body...)
	var sum uint32
	for i := 0; i+1 < len(pseudo); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(pseudo[i:]))
	}
	if len(pseudo)%2 == 1 {
		sum += uint32(pseudo[len(pseudo)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// probeFrames asks whether anybody has vip: an ARP probe (RFC 5227 section
// 2.1.1), or a neighbour solicitation from the unspecified address (RFC 4862
// section 5.4.2).
func probeFrames(mac net.HardwareAddr, vip netip.Addr) ([][]byte, error) {
	if vip.Is4() {
		f, err := arpFrame(arp.OperationRequest, mac, netip.IPv4Unspecified(), make(net.HardwareAddr, 6), vip)
		return [][]byte{f}, err
	}
	group, err := ndp.SolicitedNodeMulticast(vip)
	if err != nil {
		return nil, fmt.Errorf("probe for %s: %w", vip, err)
	}
	f, err := ndpFrame(mac, netip.IPv6Unspecified(), group, &ndp.NeighborSolicitation{TargetAddress: vip})
	return [][]byte{f}, err
}

// gratuitousFrames says that vip lives at mac: a gratuitous ARP request and
// reply (RFC 5227 section 3; some hosts learn from the one, some from the
// other), or an unsolicited neighbour advertisement with the override flag (RFC
// 4861 section 7.2.6).
func gratuitousFrames(mac net.HardwareAddr, vip netip.Addr) ([][]byte, error) {
	if vip.Is4() {
		request, err := arpFrame(arp.OperationRequest, mac, vip, ethernet.Broadcast, vip)
		if err != nil {
			return nil, err
		}
		reply, err := arpFrame(arp.OperationReply, mac, vip, ethernet.Broadcast, vip)
		return [][]byte{request, reply}, err
	}
	f, err := ndpFrame(mac, vip, netip.IPv6LinkLocalAllNodes(), &ndp.NeighborAdvertisement{
		Override: true, TargetAddress: vip,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac}},
	})
	return [][]byte{f}, err
}

// arpFrame is a whole broadcast Ethernet frame.
func arpFrame(op arp.Operation, mac net.HardwareAddr, sender netip.Addr, targetMAC net.HardwareAddr, target netip.Addr) ([]byte, error) {
	return arpFrameTo(ethernet.Broadcast, op, mac, sender, targetMAC, target)
}

func arpFrameTo(to net.HardwareAddr, op arp.Operation, mac net.HardwareAddr, sender netip.Addr, targetMAC net.HardwareAddr, target netip.Addr) ([]byte, error) {
	p, err := arp.NewPacket(op, mac, sender, targetMAC, target)
	if err != nil {
		return nil, fmt.Errorf("build ARP for %s: %w", target, err)
	}
	body, err := p.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("build ARP for %s: %w", target, err)
	}
	return etherFrame(to, mac, ethernet.EtherTypeARP, body)
}

// ndpFrame is a whole Ethernet frame to a multicast group.
func ndpFrame(mac net.HardwareAddr, src, group netip.Addr, m ndp.Message) ([]byte, error) {
	return ndpFrameTo(groupMAC(group), mac, src, group, m)
}

// ndpFrameTo is a whole Ethernet frame from mac to the MAC to.
func ndpFrameTo(to, mac net.HardwareAddr, src, dst netip.Addr, m ndp.Message) ([]byte, error) {
	body, err := ndp.MarshalMessageChecksum(m, src, dst)
	if err != nil {
		return nil, fmt.Errorf("build NDP from %s: %w", src, err)
	}
	b := make([]byte, 0, ipv6Len+len(body))
	b = append(b, 6<<4, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	b = append(b, protoICMPv6, ndpHopLimit)
	b = append(append(append(b, src.AsSlice()...), dst.AsSlice()...), body...)
	return etherFrame(to, mac, ethernet.EtherTypeIPv6, b)
}

func etherFrame(dst, src net.HardwareAddr, kind ethernet.EtherType, body []byte) ([]byte, error) {
	f := &ethernet.Frame{Destination: dst, Source: src, EtherType: kind, Payload: body}
	b, err := f.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("build Ethernet frame: %w", err)
	}
	return b, nil
}

// groupMAC is where an IPv6 multicast group lives on Ethernet: RFC 2464 section 7.
func groupMAC(group netip.Addr) net.HardwareAddr {
	b := group.As16()
	return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}
