package l2

import (
	"net"
	"net/netip"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
)

var (
	mac1 = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	mac9 = net.HardwareAddr{2, 0, 0, 0, 0, 0x99}
)

func mustFrame(t testing.TB, f []byte, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// What is heard of an address: claims and probes, and nothing of the rest.
func TestParse(t *testing.T) {
	host, peer, other := netip.MustParseAddr("198.18.0.2"), netip.MustParseAddr("fe80::2"), netip.MustParseAddr("fd98:18::2")
	group, _ := ndp.SolicitedNodeMulticast(vip6)
	all := netip.IPv6LinkLocalAllNodes()
	arpOf := func(op arp.Operation, sender, target netip.Addr) []byte {
		f, err := arpFrame(op, mac9, sender, ethernet.Broadcast, target)
		return mustFrame(t, f, err)
	}
	ndpOf := func(src, dst netip.Addr, m ndp.Message) []byte {
		f, err := ndpFrame(mac9, src, dst, m)
		return mustFrame(t, f, err)
	}
	lla := func(d ndp.Direction, mac net.HardwareAddr) []ndp.Option {
		return []ndp.Option{&ndp.LinkLayerAddress{Direction: d, Addr: mac}}
	}
	spoil := func(f []byte, at int, b byte) []byte { f[at] = b; return f }
	for _, tc := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"ARP reply", arpOf(arp.OperationReply, vip4, host), "198.18.0.200 02:00:00:00:00:99"},
		{"ARP request from the address", arpOf(arp.OperationRequest, vip4, host), "198.18.0.200 02:00:00:00:00:99"},
		{"ARP probe", arpOf(arp.OperationRequest, netip.IPv4Unspecified(), vip4), "probe 198.18.0.200 02:00:00:00:00:99"},
		{"ordinary ARP request says whose the sender's is", arpOf(arp.OperationRequest, host, vip4), "198.18.0.2 02:00:00:00:00:99"},
		{"ARP reply without a sender", arpOf(arp.OperationReply, netip.IPv4Unspecified(), vip4), ""},
		{"ARP of another operation", arpOf(3, vip4, host), ""},
		{"ARP of another hardware", spoil(arpOf(arp.OperationReply, vip4, host), etherLen+1, 6), ""},
		{"ARP from a multicast MAC", spoil(arpOf(arp.OperationReply, vip4, host), etherLen+8, 3), ""},
		{"NA", ndpOf(peer, all, &ndp.NeighborAdvertisement{TargetAddress: vip6, Options: lla(ndp.Target, mac1)}), "fd98:18::200 02:00:00:00:00:01"},
		{"NA without its MAC", ndpOf(peer, other, &ndp.NeighborAdvertisement{TargetAddress: vip6, Solicited: true}), "fd98:18::200 02:00:00:00:00:99"},
		{"NA to all, solicited", ndpOf(peer, all, &ndp.NeighborAdvertisement{TargetAddress: vip6, Solicited: true}), ""},
		{"NA through a router", spoil(ndpOf(peer, all, &ndp.NeighborAdvertisement{TargetAddress: vip6}), etherLen+7, 254), ""},
		{"NA with a wrong checksum", spoil(ndpOf(peer, all, &ndp.NeighborAdvertisement{TargetAddress: vip6}), etherLen+ipv6Len+2, 1), ""},
		{"NS that probes", ndpOf(netip.IPv6Unspecified(), group, &ndp.NeighborSolicitation{TargetAddress: vip6}), "probe fd98:18::200 02:00:00:00:00:99"},
		{"NS that probes all", ndpOf(netip.IPv6Unspecified(), all, &ndp.NeighborSolicitation{TargetAddress: vip6}), ""},
		{"ordinary NS", ndpOf(peer, group, &ndp.NeighborSolicitation{TargetAddress: vip6, Options: lla(ndp.Source, mac9)}), ""},
		{"router advertisement", ndpOf(peer, all, &ndp.RouterAdvertisement{}), ""},
		{"nothing", nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := textOf(parse(tc.frame)); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func textOf(a assertion, ok bool) string {
	switch {
	case !ok:
		return ""
	case a.probe:
		return "probe " + a.addr.String() + " " + a.mac
	}
	return a.addr.String() + " " + a.mac
}

// again builds the frame that says w and reads it.
func again(t *testing.T, a assertion) assertion {
	t.Helper()
	mac, err := net.ParseMAC(a.mac)
	if err != nil {
		t.Fatalf("%+v: %v", a, err)
	}
	build := gratuitousFrames
	if a.probe {
		build = probeFrames
	}
	frames, err := build(mac, a.addr)
	if err != nil {
		t.Fatalf("%+v: %v", a, err)
	}
	for _, f := range frames {
		got, ok := parse(f)
		if !ok || got != a {
			t.Fatalf("%+v was sent, and read as %+v, %v", a, got, ok)
		}
	}
	return a
}

func FuzzParseARP(f *testing.F) {
	for _, build := range []func(net.HardwareAddr, netip.Addr) ([][]byte, error){gratuitousFrames, probeFrames} {
		frames, err := build(mac1, vip4)
		for _, b := range frames {
			f.Add(mustFrame(f, b, err)[etherLen:])
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		frame, err := etherFrame(ethernet.Broadcast, mac9, ethernet.EtherTypeARP, body)
		if err != nil {
			t.Skip()
		}
		if a, ok := parse(frame); ok {
			again(t, a)
		}
	})
}

// FuzzParseNDP repairs the checksum of what it tries, or nothing would get far.
func FuzzParseNDP(f *testing.F) {
	for _, build := range []func(net.HardwareAddr, netip.Addr) ([][]byte, error){gratuitousFrames, probeFrames} {
		frames, err := build(mac1, vip6)
		for _, b := range frames {
			f.Add(mustFrame(f, b, err)[etherLen:])
		}
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		frame, err := etherFrame(ethernet.Broadcast, mac9, ethernet.EtherTypeIPv6, packet)
		if err != nil {
			t.Skip()
		}
		parse(frame)
		b := frame[etherLen:]
		if len(b) < ipv6Len+4 {
			return
		}
		b[4], b[5] = byte((len(b)-ipv6Len)>>8), byte(len(b)-ipv6Len)
		b[ipv6Len+2], b[ipv6Len+3] = 0, 0
		sum := checksum(netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[ipv6Len:])
		b[ipv6Len+2], b[ipv6Len+3] = byte(sum>>8), byte(sum)
		if a, ok := parse(frame); ok {
			again(t, a)
		}
	})
}
