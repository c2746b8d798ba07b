package netlink

import (
	"context"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// A node whose kernel has no IPv6 forwards IPv4, whatever the Table has of IPv6.
func TestLessIPv6(t *testing.T) {
	nstest.NeedLess(t, "ipv6")
	forwardsIPv4(t, (*Engine).Probe)
}

// An Engine that serves IPv4 alone writes, repairs and removes no table of IPv6.
func TestOneFamily(t *testing.T) {
	node := forwardsIPv4(t, func(e *Engine, _ context.Context) error {
		e.families = []*nftables.Family{nftables.IP4}
		return nil
	})
	if node.Serves(snapshot.IPv6) || !node.Serves(snapshot.IPv4) {
		t.Error("it does not say which family it serves")
	}
}

// A node whose kernel lacks a module that the rules of one family need forwards the other,
// and says so.
func TestLessOneFamily(t *testing.T) {
	nstest.NeedLess(t, "nft_fib_ipv6")
	if e := forwardsIPv4(t, (*Engine).Probe); e.Serves(snapshot.IPv6) || !e.Serves(snapshot.IPv4) {
		t.Errorf("serves IPv6: %v, IPv4: %v", e.Serves(snapshot.IPv6), e.Serves(snapshot.IPv4))
	}
}

// forwardsIPv4 has an Engine forward on a node with a client and a pod of IPv4, from its first
// Sync to its Cleanup, after a probe.
func forwardsIPv4(t *testing.T, probe func(*Engine, context.Context) error) *Engine {
	t.Helper()
	client, node, pod := newSpace(t, "client"), newSpace(t, "node"), newSpace(t, "pod")
	for _, end := range []struct {
		space          space
		link, at, node string
	}{{client, "c0", "198.18.1.2", "198.18.1.1"}, {pod, "p0", "198.18.2.2", "198.18.2.1"}} {
		node.Run(t, "ip", "link", "add", end.link, "type", "veth", "peer", "name", "eth0", "netns", end.space.Name)
		node.Run(t, "ip", "addr", "add", end.node+"/24", "dev", end.link)
		node.Run(t, "ip", "link", "set", end.link, "up")
		end.space.Run(t, "ip", "addr", "add", end.at+"/24", "dev", "eth0")
		end.space.Run(t, "ip", "link", "set", "eth0", "up")
		end.space.Run(t, "ip", "route", "add", "default", "via", end.node)
	}
	node.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	serve(t, pod, "198.18.2.2:8080", "pod")
	e := node.engine(t)
	if err := probe(e, t.Context()); err != nil {
		t.Fatal(err)
	}
	table := &proxy.Table{}
	for i, f := range bothFamilies {
		vip := []string{"198.18.200.1", "2001:db8::200"}[i]
		endpoint := []string{"198.18.2.2:8080", "[2001:db8::2]:8080"}[i]
		table.Frontends = append(table.Frontends, &proxy.Frontend{
			Key:     proxy.Key{Kind: proxy.VIP, Family: f, Addr: netip.MustParseAddr(vip), Protocol: snapshot.TCP, Port: 80},
			Cluster: []netip.AddrPort{netip.MustParseAddrPort(endpoint)},
		})
	}
	at := netip.MustParseAddrPort("198.18.200.1:80")
	for _, tb := range []*proxy.Table{table, lessIPv6(table), table} {
		if _, err := e.Sync(t.Context(), tb); err != nil {
			t.Fatal(err)
		}
		client.wants(t, "tcp", at, "pod 198.18.2.1")
	}
	node.Run(t, "nft", "flush", "table", "ip", "fairlead")
	if c, err := e.Sync(t.Context(), table); err != nil || !c.Repaired {
		t.Errorf("after a flush: %+v, %v", c, err)
	}
	client.wants(t, "tcp", at, "pod 198.18.2.1")
	if _, err := node.Try("nft", "list", "table", "ip6", "fairlead"); (err != nil) == e.Serves(snapshot.IPv6) {
		t.Errorf("serves IPv6: %v; its table: %v", e.Serves(snapshot.IPv6), err)
	}
	// Another process finds what this one wrote.
	other := node.engine(t)
	if err := probe(other, t.Context()); err != nil {
		t.Fatal(err)
	}
	if c, err := other.Sync(t.Context(), table); err != nil || c.Added+c.Deleted > 0 {
		t.Errorf("another engine: %+v, %v", c, err)
	}
	if err := e.Cleanup(t.Context()); err != nil {
		t.Error(err)
	}
	return e
}

// lessIPv6 is table without its second Frontend.
func lessIPv6(table *proxy.Table) *proxy.Table {
	next := *table
	next.Frontends = table.Frontends[:1]
	return &next
}
