package link

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/internal/test/asktest"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// On an uplink that is a bridge, a macvlan link, a VLAN or a bond, the VIP is announced there,
// by one MAC, and not on what is below it. So it is on a link in a VRF. It moves to another
// node.
func TestUplinksOfOtherKinds(t *testing.T) {
	for kind, add := range map[string][]string{
		"bridge":  {"link add up0 type bridge stp_state 0 forward_delay 0", "link set eth0 master up0"},
		"macvlan": {"link add link eth0 name up0 type macvlan mode bridge"},
		"vlan":    {"link add link eth0 name up0 type vlan id 5"},
		"bond":    {"link add up0 type bond mode active-backup miimon 100", "link set eth0 master up0"},
		"vrf":     {"link add blue type vrf table 77", "link set blue up", "link set eth0 name up0", "link set up0 master blue"},
	} {
		t.Run(kind, func(t *testing.T) {
			nstest.NeedLink(t, kind)
			moves(t, kind, add)
		})
	}
}

// moves announces a VIP of each family from one of two nodes, whose uplink up0 is made by
// add, and then from the other. The client of a VLAN is in it.
func moves(t *testing.T, kind string, add []string) {
	lan := nstest.New(t, "lan")
	lan.Run(t, "ip", "link", "add", "lan", "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
	lan.Run(t, "ip", "link", "set", "lan", "up")
	vips := []netip.Addr{netip.MustParseAddr("198.18.0.200"), netip.MustParseAddr("fd98:18::200")}
	var hosts [3]nstest.Space
	for i, name := range []string{"one", "two", "client"} {
		s := nstest.New(t, name)
		hosts[i] = s
		s.Run(t, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
		s.Run(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", name, "netns", lan.Name)
		lan.Run(t, "ip", "link", "set", name, "master", "lan", "up")
		on, below := "eth0", "eth0"
		if name != "client" || kind == "vlan" {
			on = "up0"
			for _, command := range add {
				s.Run(t, append([]string{"ip"}, strings.Fields(command)...)...)
			}
		}
		for _, a := range []string{"198.18.0." + "123"[i:i+1] + "/24", "fd98:18::" + "123"[i:i+1] + "/64"} {
			s.Run(t, "ip", "addr", "add", a, "dev", on)
		}
		if kind == "vrf" && name != "client" {
			below = "up0"
		}
		s.Run(t, "ip", "link", "set", below, "up")
		s.Run(t, "ip", "link", "set", on, "up")
	}
	asks := "eth0"
	if kind == "vlan" {
		asks = "up0"
	}
	var last *l2.Leases
	for _, node := range hosts[:2] {
		nstest.Eventually(t, "one link can carry a VIP", func() bool { st := read(t, node); return len(st.Links) == 1 && st.Links[0].Name == "up0" })
		if last != nil {
			if _, err := last.Sync(announcer.Set{}); err != nil {
				t.Fatal(err)
			}
		}
		last = l2.New(node.Netlink(t), int(node.Handle), slog.New(slog.DiscardHandler))
		claims := []announcer.Claim{{Addr: vips[0], Link: "up0"}, {Addr: vips[1], Link: "up0"}}
		nstest.Eventually(t, "both VIPs are held", func() bool {
			held, err := last.Sync(announcer.Set{Claims: claims})
			return err == nil && len(held) == len(claims)
		})
		mac := read(t, node).Links[0].MAC
		nstest.Eventually(t, "that link alone answers", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var heard map[netip.Addr]*asktest.Heard
			hosts[2].Do(t, func() (err error) {
				heard, err = asktest.Ask(ctx, asks, vips)
				return err
			})
			return !slices.ContainsFunc(vips, func(vip netip.Addr) bool { m := heard[vip].Moves(); return len(m) != 1 || m[0] != mac })
		})
	}
}
