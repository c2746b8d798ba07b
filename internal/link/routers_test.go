package link

import (
	"fmt"
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestRoutersOf: those that the kernel marks as routers, and the gateways of default
// routes, each once.
func TestRoutersOf(t *testing.T) {
	ip := net.ParseIP
	_, all, _ := net.ParseCIDR("::/0")
	_, some, _ := net.ParseCIDR("203.0.113.0/24")
	got := routers(map[int]string{2: "eth0", 3: "eth1"},
		[]netlink.Neigh{
			{LinkIndex: 2, IP: ip("fe80::1"), Flags: unix.NTF_ROUTER, State: unix.NUD_STALE},
			{LinkIndex: 2, IP: ip("fe80::2"), State: unix.NUD_REACHABLE},
			{LinkIndex: 2, IP: ip("fe80::3"), Flags: unix.NTF_ROUTER, State: unix.NUD_FAILED},
			{LinkIndex: 3, IP: ip("fe80::1"), Flags: unix.NTF_ROUTER, State: unix.NUD_REACHABLE},
			{LinkIndex: 9, IP: ip("fe80::9"), Flags: unix.NTF_ROUTER, State: unix.NUD_REACHABLE},
		},
		[]netlink.Route{
			{LinkIndex: 2, Gw: ip("192.0.2.1")},
			{LinkIndex: 2, Gw: ip("192.0.2.2"), Dst: some},
			{LinkIndex: 3, Gw: ip("fe80::1"), Dst: all},
			{MultiPath: []*netlink.NexthopInfo{{LinkIndex: 2, Gw: ip("192.0.2.3")}}},
			{LinkIndex: 2},
		})
	want := "[{eth0 192.0.2.1 true} {eth0 192.0.2.3 true} {eth0 fe80::1%eth0 false} {eth1 fe80::1%eth1 true}]"
	if fmt.Sprint(got) != want {
		t.Errorf("got %v", got)
	}
}
