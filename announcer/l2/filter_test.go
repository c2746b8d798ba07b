package l2

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"pgregory.net/rapid"
)

func vm(t rapid.TB, v6 bool, addrs []netip.Addr) func(frame []byte) bool {
	t.Helper()
	raw, err := filter(v6, addrs)
	if err != nil {
		t.Fatal(err)
	}
	if len(raw)*8 > 16<<10 {
		t.Fatalf("a filter of %d instructions is too long for some kernels", len(raw))
	}
	program, _ := bpf.Disassemble(raw)
	m, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return func(frame []byte) bool {
		n, err := m.Run(frame)
		return err == nil && n > 0
	}
}

// The kernel lets through what is said of the watched addresses, and neither
// what is said of others nor ordinary requests for them.
func TestFilterChoosesByAddress(t *testing.T) {
	client, peer := netip.MustParseAddr("198.18.0.2"), netip.MustParseAddr("fe80::2")
	four, six := vm(t, false, []netip.Addr{vip4}), vm(t, true, []netip.Addr{vip6})
	group, _ := ndp.SolicitedNodeMulticast(vip6)
	frame := func(f []byte, err error) []byte { return mustFrame(t, f, err) }
	na := func(of netip.Addr) []byte {
		return frame(ndpFrame(mac9, peer, netip.IPv6LinkLocalAllNodes(), &ndp.NeighborAdvertisement{TargetAddress: of}))
	}
	ns := func(src, of netip.Addr) []byte {
		return frame(ndpFrame(mac9, src, group, &ndp.NeighborSolicitation{TargetAddress: of}))
	}
	udp := na(vip6)
	udp[ip6Next] = 17
	for _, tc := range []struct {
		name  string
		pass  func([]byte) bool
		frame []byte
		want  bool
	}{
		{"claim", four, frame(arpFrame(arp.OperationReply, mac9, vip4, ethernet.Broadcast, client)), true},
		{"probe", four, frame(arpFrame(arp.OperationRequest, mac9, netip.IPv4Unspecified(), mac9, vip4)), true},
		{"request", four, frame(arpFrame(arp.OperationRequest, mac9, client, mac9, vip4)), false},
		{"foreign claim", four, frame(arpFrame(arp.OperationReply, mac9, client, mac9, vip4)), false},
		{"foreign probe", four, frame(arpFrame(arp.OperationRequest, mac9, netip.IPv4Unspecified(), mac9, client)), false},
		{"short", four, frame(arpFrame(arp.OperationRequest, mac9, vip4, mac9, client))[:30], false},
		{"NA", six, na(vip6), true},
		{"foreign NA", six, na(peer), false},
		{"NS that probes", six, ns(netip.IPv6Unspecified(), vip6), true},
		{"foreign NS that probes", six, ns(netip.IPv6Unspecified(), peer), false},
		{"ordinary NS", six, ns(peer, vip6), false},
		{"router advertisement", six, frame(ndpFrame(mac9, peer, netip.IPv6LinkLocalAllNodes(), &ndp.RouterAdvertisement{})), false},
		{"UDP", six, udp, false},
	} {
		if got := tc.pass(tc.frame); got != tc.want {
			t.Errorf("%s: passes %v, want %v", tc.name, got, tc.want)
		}
	}
	if vm(t, false, nil)(frame(arpFrame(arp.OperationReply, mac9, vip4, mac9, client))) {
		t.Error("a filter without addresses lets something through")
	}
}

// However many addresses are watched, none is missed; with few, nothing else
// passes.
func TestFilterAgainstList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfN(rapid.Uint32(), 1, 600).Draw(t, "addresses")
		if rapid.Bool().Draw(t, "close together") {
			for i := range keys {
				keys[i] = 0xc6120000 + keys[i]%1024
			}
		}
		addrs := make([]netip.Addr, len(keys))
		for i, k := range keys {
			addrs[i] = netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, k)))
		}
		pass := vm(t, false, addrs)
		frame := make([]byte, 60)
		try := func(k uint32) bool {
			binary.BigEndian.PutUint32(frame[arpSender:], k)
			binary.BigEndian.PutUint32(frame[arpTarget:], k)
			return pass(frame)
		}
		slices.Sort(keys)
		exact := len(join(keys, 1)) <= mostSpans
		for _, k := range keys {
			if !try(k) {
				t.Fatalf("%08x is missed", k)
			}
			for _, near := range []uint32{k - 1, k + 1} {
				if _, watched := slices.BinarySearch(keys, near); exact && !watched && try(near) {
					t.Fatalf("%08x passes", near)
				}
			}
		}
	})
}
