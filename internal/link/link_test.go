package link

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// describe prints a State without indexes.
func describe(s State) string {
	var b strings.Builder
	for _, l := range s.Links {
		fmt.Fprintf(&b, "%s %v\n", l.Name, l.Prefixes)
	}
	fmt.Fprintf(&b, "addrs %v", s.Addrs)
	return b.String()
}

func read(t *testing.T, s nstest.Space) (st State) {
	t.Helper()
	s.Do(t, func() (err error) { st, err = Read(); return err })
	return st
}

// Only links that could carry a VIP count: not loopback, not a bridge's port,
// not one that is down or has no address; leases of VIPs are not addresses of
// the node.
func TestReadSuitableLinks(t *testing.T) {
	node, peer := nstest.New(t, "node"), nstest.New(t, "peer")
	nstest.Wire(t, node, peer, "198.18.0.1/24", "198.18.0.2/24")
	node.Run(t, "ip", "addr", "add", "198.18.0.200/32", "dev", "eth0", "noprefixroute", "valid_lft", "30", "preferred_lft", "0")
	node.Run(t, "ip", "link", "add", "kube-ipvs0", "type", "bridge")
	node.Run(t, "ip", "addr", "add", "198.18.0.201/32", "dev", "kube-ipvs0")
	node.Run(t, "ip", "link", "add", "br0", "type", "bridge")
	node.Run(t, "ip", "link", "add", "port0", "type", "veth", "peer", "name", "port1")
	node.Run(t, "ip", "link", "set", "port0", "master", "br0", "up")
	node.Run(t, "ip", "addr", "add", "198.18.9.1/24", "dev", "port0")
	node.Run(t, "ip", "addr", "add", "198.18.8.1/24", "dev", "port1") // stays down
	want := "eth0 [198.18.0.1/24]\naddrs [198.18.0.1 198.18.8.1 198.18.9.1]"
	if got := describe(withoutLoopback(read(t, node))); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	peer.Run(t, "ip", "link", "set", "eth0", "down") // carrier is gone
	nstest.Eventually(t, "eth0 is no longer suitable", func() bool { return len(read(t, node).Links) == 0 })
}

func withoutLoopback(s State) State {
	var out []netip.Addr
	for _, a := range s.Addrs {
		if !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			out = append(out, a)
		}
	}
	s.Addrs = out
	return s
}

// Watch tells of links and addresses, and not of renewed leases.
func TestWatch(t *testing.T) {
	node := nstest.New(t, "node")
	node.Run(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
	ctx, cancel := context.WithCancel(t.Context())
	var changes atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		node.Do(t, func() error { return Watch(ctx, func() { changes.Add(1) }) })
	}()
	moves := func(what string, args ...string) {
		t.Helper()
		nstest.Eventually(t, "an event after "+what, func() bool {
			before := changes.Load()
			node.Run(t, args...)
			return changes.Load() > before
		})
	}
	moves("a link came up", "sh", "-c", "ip link set eth0 down; ip link set eth0 up; ip link set eth1 up")
	moves("an address was added", "sh", "-c", "ip addr del 198.18.0.1/24 dev eth0 2>/dev/null; ip addr add 198.18.0.1/24 dev eth0")
	cancel()
	<-done
	u := leaseUpdate()
	if !isLease(u) {
		t.Error("a renewed lease counts as a change")
	}
	u.NewAddr = false
	if isLease(u) {
		t.Error("a lease that somebody removed must count as a change")
	}
}

func leaseUpdate() netlink.AddrUpdate {
	return netlink.AddrUpdate{
		LinkAddress: net.IPNet{IP: net.IPv4(198, 18, 0, 200).To4(), Mask: net.CIDRMask(32, 32)},
		Flags:       unix.IFA_F_NOPREFIXROUTE, ValidLft: 30, NewAddr: true,
	}
}
