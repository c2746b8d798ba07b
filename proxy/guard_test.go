package proxy

import (
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// A guard has the ports of VIPs alone. It leaves packets to them alone and refuses
// those to other ports of the VIPs.
func TestGuarded(t *testing.T) {
	vip, cluster := netip.MustParseAddr("198.18.0.200"), netip.MustParseAddr("10.96.0.1")
	full := &Table{NodePortAddrs: []netip.Addr{netip.MustParseAddr("198.18.0.1")}, ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}}
	for kind, addr := range map[Kind]netip.Addr{ClusterIP: cluster, VIP: vip} {
		full.Frontends = append(full.Frontends, &Frontend{Key: Key{Kind: kind, Family: snapshot.IPv4, Addr: addr, Protocol: snapshot.TCP, Port: 80}, Cluster: []netip.AddrPort{netip.MustParseAddrPort("198.18.1.2:8080")}})
	}
	full.Frontends = append(full.Frontends, &Frontend{Key: Key{Kind: VIP, Family: snapshot.IPv4, Addr: vip, Protocol: snapshot.TCP},
		Ranges: []snapshot.PortRange{{Protocol: snapshot.TCP, First: 20, Last: 30}}, Cluster: []netip.AddrPort{netip.MustParseAddrPort("198.18.1.2:0")}})
	got := full.Guarded()
	if want := "guard 198.18.0.200 tcp/80 -> none\nnodeport-address 198.18.0.1\n"; got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if full.Guards() || !got.Guards() {
		t.Error("the full Table is not a guard, and the other one is")
	}
	for to, want := range map[string]string{
		"198.18.0.200:80": "forward (left to the proxy that forwards)",
		"198.18.0.200:22": "reject (undefined port of a guard)",
		"10.96.0.1:80":    "forward (not a Service's address)",
	} {
		if got := got.Trace(Packet{Protocol: snapshot.TCP, Src: netip.MustParseAddr("203.0.113.1"), Dst: netip.MustParseAddrPort(to)}); got.String() != want {
			t.Errorf("%s: %s, want %s", to, got, want)
		}
	}
}
