package client

import (
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/fairlead/fairlead/internal/dhcp"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// answer4 and answer6 are what a server says.
func answer4() []byte {
	p := &dhcpv4.DHCPv4{OpCode: dhcpv4.OpcodeBootReply, ClientHWAddr: []byte{2, 0, 0, 0, 0, 1}, TransactionID: xid4(7), YourIPAddr: []byte{192, 0, 2, 50}, Options: dhcpv4.Options{}}
	p.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeAck))
	p.UpdateOption(dhcpv4.OptServerIdentifier([]byte{192, 0, 2, 1}))
	p.UpdateOption(dhcpv4.OptIPAddressLeaseTime(time.Hour))
	return datagram{from: netip.MustParseAddrPort("192.0.2.1:67"), to: netip.MustParseAddrPort("255.255.255.255:68"), payload: p.ToBytes()}.marshal()
}

func answer6() []byte {
	p := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeReply, TransactionID: xid6(7)}
	id := dhcp.Identity{}
	p.AddOption(dhcpv6.OptClientID(duid(id)))
	p.AddOption(dhcpv6.OptServerID(duid(id)))
	ia := &dhcpv6.OptIANA{}
	ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: netip.MustParseAddr("2001:db8::50").AsSlice(), PreferredLifetime: 20 * time.Minute, ValidLifetime: time.Hour})
	p.AddOption(ia)
	return datagram{from: netip.MustParseAddrPort("[fe80::1]:547"), to: netip.MustParseAddrPort("[fe80::2]:546"), payload: p.ToBytes()}.marshal()
}

// TestDecode: what is read of a good answer of each family.
func TestDecode(t *testing.T) {
	m, to, err := decode4(answer4())
	if err != nil || m.Kind != dhcp.Ack || m.Addr.String() != "192.0.2.50" || m.Server.String() != "192.0.2.1" || m.Lifetime != time.Hour || to != (address{7, "02:00:00:00:00:01"}) {
		t.Errorf("got %+v for %+v, %v", m, to, err)
	}
	m, to, err = decode6(answer6())
	if err != nil || m.Kind != dhcp.Ack || m.Addr.String() != "2001:db8::50" || m.Server.String() != "fe80::1" || m.Lifetime != time.Hour || m.T1 != 10*time.Minute || to.xid != 7 {
		t.Errorf("got %+v for %+v, %v", m, to, err)
	}
}

// FuzzDecode: whatever comes in, it is read or refused, and what is sent is never taken for
// an answer.
func FuzzDecode(f *testing.F) {
	f.Add(answer4())
	f.Add(answer6())
	id := dhcp.IdentityOf(dhcp.Key{Pool: "lan", ID: uid, Family: snapshot.IPv4}, "default", "web")
	ours4 := encode4(id, 7, dhcp.Message{Kind: dhcp.Discover})
	ours6 := encode6(id, 7, netip.MustParseAddr("fe80::2"), dhcp.Message{Kind: dhcp.Discover})
	f.Add(ours4)
	f.Add(ours6)
	f.Fuzz(func(t *testing.T, packet []byte) {
		for _, decode := range []func([]byte) (dhcp.Message, address, error){decode4, decode6} {
			m, _, err := decode(packet)
			if err == nil && (string(packet) == string(ours4) || string(packet) == string(ours6)) {
				t.Errorf("our own message is read as %+v", m)
			}
		}
	})
}
