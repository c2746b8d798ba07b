package client

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/fairlead/fairlead/internal/dhcp"
)

// rfc4361 is the type of a client identifier that is an IAID and a DUID.
const rfc4361 = 255

// types4 are the messages to servers. RFC 2131 has no message of its own to renew.
var types4 = map[dhcp.Kind]dhcpv4.MessageType{
	dhcp.Discover: dhcpv4.MessageTypeDiscover, dhcp.Request: dhcpv4.MessageTypeRequest, dhcp.Renew: dhcpv4.MessageTypeRequest,
	dhcp.Release: dhcpv4.MessageTypeRelease, dhcp.Decline: dhcpv4.MessageTypeDecline,
}

// encode4 returns the packet with m for all hosts of the link.
func encode4(id dhcp.Identity, xid uint32, m dhcp.Message) []byte {
	p := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootRequest, HWType: iana.HWTypeEthernet, ClientHWAddr: id.MAC[:], TransactionID: xid4(xid),
		ClientIPAddr: net.IPv4zero, YourIPAddr: net.IPv4zero, ServerIPAddr: net.IPv4zero, GatewayIPAddr: net.IPv4zero, Options: dhcpv4.Options{},
	}
	// No link has the client's MAC address, so an answer to it alone would not arrive.
	p.SetBroadcast()
	p.UpdateOption(dhcpv4.OptMessageType(types4[m.Kind]))
	p.UpdateOption(dhcpv4.OptClientIdentifier(clientID(id)))
	switch m.Kind {
	case dhcp.Release:
		p.ClientIPAddr = m.Addr.AsSlice()
	case dhcp.Request, dhcp.Renew, dhcp.Decline:
		p.UpdateOption(dhcpv4.OptRequestedIPAddress(m.Addr.AsSlice()))
	}
	if m.Server.IsValid() && m.Kind != dhcp.Renew {
		p.UpdateOption(dhcpv4.OptServerIdentifier(m.Server.AsSlice()))
	}
	if m.Kind != dhcp.Release && m.Kind != dhcp.Decline {
		p.UpdateOption(dhcpv4.OptHostName(id.Host))
		p.UpdateOption(dhcpv4.OptParameterRequestList(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionIPAddressLeaseTime, dhcpv4.OptionRenewTimeValue))
	}
	all := netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), server4)
	return datagram{from: netip.AddrPortFrom(netip.IPv4Unspecified(), client4), to: all, payload: p.ToBytes()}.marshal()
}

// clientID is the client identifier, which goes by no MAC address.
func clientID(id dhcp.Identity) []byte {
	return append(append([]byte{rfc4361}, id.IAID[:]...), duidBytes(id)...)
}

// decode4 reads what a server says, and to which transaction and client.
func decode4(packet []byte) (m dhcp.Message, to address, err error) {
	d, err := parse(packet)
	if err != nil {
		return m, to, err
	}
	p, err := dhcpv4.FromBytes(d.payload)
	if err != nil {
		return m, to, fmt.Errorf("read a DHCP message: %w", err)
	}
	to = address{xid: xidOf4(p.TransactionID), client: p.ClientHWAddr.String()}
	switch p.MessageType() {
	case dhcpv4.MessageTypeOffer:
		m.Kind = dhcp.Offer
	case dhcpv4.MessageTypeAck:
		m.Kind = dhcp.Ack
	case dhcpv4.MessageTypeNak:
		m.Kind = dhcp.Nak
	}
	if m.Kind == "" || p.OpCode != dhcpv4.OpcodeBootReply {
		return m, to, errForeign
	}
	m.Addr, m.Server = addr4(p.YourIPAddr), addr4(p.ServerIdentifier())
	if !m.Server.IsValid() {
		m.Server = d.from.Addr()
	}
	for _, r := range p.Router() {
		m.Routers = append(m.Routers, addr4(r))
	}
	m.Lifetime, m.T1 = p.IPAddressLeaseTime(0), p.IPAddressRenewalTime(0)
	return m, to, nil
}

func addr4(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip.To4())
	return a
}

func xid4(n uint32) (x dhcpv4.TransactionID) {
	binary.BigEndian.PutUint32(x[:], n)
	return x
}

func xidOf4(x dhcpv4.TransactionID) uint32 { return binary.BigEndian.Uint32(x[:]) }
