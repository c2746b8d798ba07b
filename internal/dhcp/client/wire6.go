package client

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/fairlead/fairlead/internal/dhcp"
)

// types6 are the messages to servers.
var types6 = map[dhcp.Kind]dhcpv6.MessageType{
	dhcp.Discover: dhcpv6.MessageTypeSolicit, dhcp.Request: dhcpv6.MessageTypeRequest, dhcp.Renew: dhcpv6.MessageTypeRebind,
	dhcp.Release: dhcpv6.MessageTypeRelease, dhcp.Decline: dhcpv6.MessageTypeDecline,
}

// allServers is the group of the link's servers and relays.
var allServers = netip.MustParseAddr("ff02::1:2")

func duid(id dhcp.Identity) *dhcpv6.DUIDUUID { return &dhcpv6.DUIDUUID{UUID: id.UUID} }

func duidBytes(id dhcp.Identity) []byte { return duid(id).ToBytes() }

// encode6 returns the packet with m for all servers of the link, from a link-local address
// of this node.
func encode6(id dhcp.Identity, xid uint32, from netip.Addr, m dhcp.Message) []byte {
	p := &dhcpv6.Message{MessageType: types6[m.Kind], TransactionID: xid6(xid)}
	p.AddOption(dhcpv6.OptClientID(duid(id)))
	// Servers drop a Rebind that names one (RFC 8415 section 16.7).
	if server, err := dhcpv6.DUIDFromBytes([]byte(m.ServerID)); err == nil && m.Kind != dhcp.Renew {
		p.AddOption(dhcpv6.OptServerID(server))
	}
	p.AddOption(dhcpv6.OptElapsedTime(0))
	ia := &dhcpv6.OptIANA{IaId: id.IAID}
	if m.Addr.IsValid() {
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: m.Addr.AsSlice()})
	}
	p.AddOption(ia)
	to := netip.AddrPortFrom(allServers, server6)
	return datagram{from: netip.AddrPortFrom(from, client6), to: to, payload: p.ToBytes()}.marshal()
}

// decode6 reads what a server says, and to which transaction and client. A server counts by
// the address from which it speaks.
func decode6(packet []byte) (m dhcp.Message, to address, err error) {
	d, err := parse(packet)
	if err != nil {
		return m, to, err
	}
	p, err := dhcpv6.MessageFromBytes(d.payload)
	if err != nil {
		return m, to, fmt.Errorf("read a DHCPv6 message: %w", err)
	}
	client, server := p.Options.ClientID(), p.Options.ServerID()
	if client == nil || server == nil {
		return m, to, errForeign
	}
	to = address{xid: xidOf6(p.TransactionID), client: hex.EncodeToString(client.ToBytes())}
	m.Server, m.ServerID = d.from.Addr(), string(server.ToBytes())
	switch p.MessageType {
	case dhcpv6.MessageTypeAdvertise:
		m.Kind = dhcp.Offer
	case dhcpv6.MessageTypeReply:
		m.Kind = dhcp.Ack
	default:
		return m, to, errForeign
	}
	ia := p.Options.OneIANA()
	if ia == nil && m.Kind == dhcp.Ack {
		return m, to, errForeign // the answer to Release, or to Decline
	}
	if ia == nil || !leased(&m, ia) || failed(p.Options.Status()) || failed(ia.Options.Status()) {
		// No address, the status NoBinding, and a lifetime of 0 say the same: not this one.
		m.Kind = map[dhcp.Kind]dhcp.Kind{dhcp.Offer: dhcp.None, dhcp.Ack: dhcp.Nak}[m.Kind]
	}
	return m, to, nil
}

// leased takes the address of ia into m, and reports whether there is one.
func leased(m *dhcp.Message, ia *dhcpv6.OptIANA) bool {
	a := ia.Options.OneAddress()
	if a == nil || failed(a.Options.Status()) {
		return false
	}
	m.Addr, _ = netip.AddrFromSlice(a.IPv6Addr)
	m.Lifetime, m.T1 = a.ValidLifetime, ia.T1
	if a.PreferredLifetime < m.Lifetime && a.PreferredLifetime > 0 && (m.T1 == 0 || m.T1 > a.PreferredLifetime/2) {
		m.T1 = max(a.PreferredLifetime/2, time.Second)
	}
	return m.Addr.IsValid() && m.Lifetime > 0
}

func failed(s *dhcpv6.OptStatusCode) bool { return s != nil && s.StatusCode != iana.StatusSuccess }

func xid6(n uint32) (x dhcpv6.TransactionID) {
	var four [4]byte
	binary.BigEndian.PutUint32(four[:], n)
	copy(x[:], four[1:])
	return x
}

func xidOf6(x dhcpv6.TransactionID) uint32 {
	return binary.BigEndian.Uint32(append([]byte{0}, x[:]...))
}
