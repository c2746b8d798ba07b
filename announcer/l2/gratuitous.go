package l2

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
)

// etherARP is ARP's EtherType.
const etherARP = 0x0806

// Gratuitous says on link, once, that vip lives at the link's MAC: a gratuitous
// ARP request and reply (RFC 5227 section 3), or an unsolicited neighbour
// advertisement with the override flag (RFC 4861 section 7.2.6).
func Gratuitous(link netlink.Link, vip netip.Addr) error {
	ifi := &net.Interface{
		Index: link.Attrs().Index, Name: link.Attrs().Name, MTU: link.Attrs().MTU,
		HardwareAddr: link.Attrs().HardwareAddr, Flags: link.Attrs().Flags,
	}
	if vip.Is4() {
		return gratuitousARP(ifi, vip)
	}
	return unsolicitedNA(ifi, vip)
}

func gratuitousARP(ifi *net.Interface, vip netip.Addr) (err error) {
	conn, err := packet.Listen(ifi, packet.Raw, etherARP, nil)
	if err != nil {
		return fmt.Errorf("open packet socket on %s: %w", ifi.Name, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	for _, op := range []arp.Operation{arp.OperationRequest, arp.OperationReply} {
		frame, err := gratuitousFrame(op, ifi.HardwareAddr, vip)
		if err != nil {
			return err
		}
		if _, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: ethernet.Broadcast}); err != nil {
			return fmt.Errorf("send ARP on %s: %w", ifi.Name, err)
		}
	}
	return nil
}

// gratuitousFrame is the whole Ethernet frame: sender and target address are
// both vip.
func gratuitousFrame(op arp.Operation, mac net.HardwareAddr, vip netip.Addr) ([]byte, error) {
	p, err := arp.NewPacket(op, mac, vip, ethernet.Broadcast, vip)
	if err != nil {
		return nil, fmt.Errorf("build ARP for %s: %w", vip, err)
	}
	body, err := p.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("build ARP for %s: %w", vip, err)
	}
	f := &ethernet.Frame{Destination: ethernet.Broadcast, Source: mac, EtherType: ethernet.EtherTypeARP, Payload: body}
	return f.MarshalBinary()
}

func unsolicitedNA(ifi *net.Interface, vip netip.Addr) (err error) {
	conn, _, err := ndp.Listen(ifi, ndp.LinkLocal)
	if err != nil {
		return fmt.Errorf("open NDP socket on %s: %w", ifi.Name, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	na := &ndp.NeighborAdvertisement{
		Override:      true,
		TargetAddress: vip,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: ifi.HardwareAddr}},
	}
	if err := conn.WriteTo(na, nil, netip.IPv6LinkLocalAllNodes()); err != nil {
		return fmt.Errorf("send neighbour advertisement on %s: %w", ifi.Name, err)
	}
	return nil
}
