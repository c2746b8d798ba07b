package client

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/dhcp"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/internal/test/routertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const uid = "6f1ed002-ab5d-4c11-9c5e-a3a5ef0e1a5b"

// site is a node on the network of a DHCP server, with a pool that leases there.
type site struct {
	node, server nstest.Space
	pool         *snapshot.Pool
	records      []*snapshot.Address
}

func newSite(t *testing.T, families ...snapshot.Family) *site {
	t.Helper()
	s := &site{node: nstest.New(t, "node"), server: nstest.New(t, "server")}
	nstest.Wire(t, s.node, s.server, "192.0.2.11/24", "192.0.2.1/24")
	s.node.Run(t, "ip", "addr", "add", "2001:db8::b/64", "dev", "eth0", "nodad")
	s.server.Run(t, "ip", "addr", "add", "2001:db8::1/64", "dev", "eth0", "nodad")
	pool := &snapshot.Pool{Name: "lan", FromDHCP: &snapshot.FromDHCP{Interface: "eth0", Families: families}}
	var leases []snapshot.PoolLease
	for _, f := range families {
		leases = append(leases, snapshot.PoolLease{Ref: snapshot.Ref{Namespace: "default", Name: "web"}, ID: uid, Family: f})
	}
	s.pool = pool.WithLeases(leases)
	return s
}

// inputs is what the node called n1, the only one, decides by.
func (s *site) inputs() dhcp.Inputs {
	links := []snapshot.Link{{Name: "eth0", Index: 2, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.11/24"), netip.MustParsePrefix("2001:db8::b/64")}}}
	snap := &snapshot.Snapshot{
		Nodes: []*snapshot.Node{{Name: "n1", Ready: true, InternalIPs: []netip.Addr{netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("192.0.2.12")}}},
		Pools: []*snapshot.Pool{s.pool}, Addresses: s.records,
	}
	report := &announcer.Report{Electable: snapshot.Electable{Node: "n1", Links: links}}
	return dhcp.Inputs{Node: "n1", Snapshot: snap, Links: links, View: announcer.View{Node: "n1", Members: []announcer.Member{{Node: "n1", Candidate: true, Report: report}}}}
}

// keep runs a Keeper on the node, and returns it with what ends it.
func (s *site) keep(t *testing.T) (*Keeper, func()) {
	t.Helper()
	k := New(slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.node.In(func() error { k.Run(ctx); return nil }); err != nil {
			t.Error(err)
		}
	})
	stop := sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	k.Follow(s.inputs())
	return k, stop
}

// has waits until k says what ok likes, of all leases, and has the pool take it over.
func (s *site) has(t *testing.T, k *Keeper, what string, ok func(snapshot.NodeLease) bool) {
	t.Helper()
	nstest.Eventually(t, what, func() bool {
		said := k.Leases()
		if len(said) != len(s.pool.Leases) {
			return false
		}
		leases := make([]snapshot.PoolLease, len(said))
		for i, l := range said {
			if !ok(l) {
				return false
			}
			leases[i] = snapshot.PoolLease{Ref: snapshot.Ref{Namespace: "default", Name: "web"}, ID: l.ID, Family: l.Family, Addr: l.Addr, Server: l.Server, Until: l.Until, Message: l.Message}
		}
		s.pool = s.pool.WithLeases(leases)
		return true
	})
}

func within(l snapshot.NodeLease, ranges map[snapshot.Family]string) bool {
	return strings.HasPrefix(l.Addr.String(), ranges[l.Family]) && l.Message == ""
}

// TestDnsmasq: addresses of both families are leased from a real server, survive the node
// that leased them, and are released when nobody wants them any more.
func TestDnsmasq(t *testing.T) {
	t.Parallel()
	s := newSite(t, snapshot.IPv4, snapshot.IPv6)
	server := routertest.StartDnsmasq(t, s.server, "192.0.2.50,192.0.2.59,1h", "2001:db8::50,2001:db8::59,64,1h")
	ranges := map[snapshot.Family]string{snapshot.IPv4: "192.0.2.5", snapshot.IPv6: "2001:db8::5"}
	first, stop := s.keep(t)
	s.has(t, first, "both addresses are leased", func(l snapshot.NodeLease) bool { return within(l, ranges) })
	want := map[string]string{}
	for _, l := range s.pool.Leases {
		want[l.Addr.String()] = "default-web"
	}
	given := server.Leases(t)
	if len(given) != 2 {
		t.Fatalf("the server has leased %v", given)
	}
	for _, l := range given {
		client := strings.ReplaceAll(l.Client, ":", "")
		// The client identifier ends in a DUID that is the Service's UID (RFC 6355).
		if _, ok := want[l.Addr]; !ok || !strings.HasSuffix(client, "0004"+strings.ReplaceAll(uid, "-", "")) {
			t.Errorf("the server has leased %+v, wanted one of %v", l, want)
		}
	}
	stop() // its node has no power any more

	second, _ := s.keep(t)
	before := s.pool.Leases
	s.has(t, second, "the next node has renewed the same addresses", func(l snapshot.NodeLease) bool {
		return within(l, ranges) && !l.At.IsZero()
	})
	for i, l := range s.pool.Leases {
		if l.Addr != before[i].Addr || l.Until.Before(before[i].Until) {
			t.Errorf("the next node has %+v, before it was %+v", l, before[i])
		}
	}
	if now := server.Leases(t); len(now) != 2 {
		t.Errorf("the server has leased %v, before %v", now, given)
	}

	// The Service is gone. Nodes may still answer for its addresses.
	for _, l := range s.pool.Leases {
		s.records = append(s.records, &snapshot.Address{Addr: l.Addr, Lease: uid})
	}
	s.pool = s.pool.WithLeases(nil)
	second.Follow(s.inputs())
	s.records = s.records[1:]
	second.Follow(s.inputs())
	nstest.Eventually(t, "the lease without a record is released", func() bool { return len(server.Leases(t)) == 1 })
	s.records = nil
	second.Follow(s.inputs())
	nstest.Eventually(t, "the leases are released", func() bool { return len(server.Leases(t)) == 0 && len(second.Leases()) == 0 })
}

// TestDnsmasqTakesBack: a server that is set up again with other addresses says no to a
// renewal. The next address is one of its new ones.
func TestDnsmasqTakesBack(t *testing.T) {
	t.Parallel()
	s := newSite(t, snapshot.IPv4, snapshot.IPv6)
	s.pool.FromDHCP.Subnets = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	server := routertest.StartDnsmasq(t, s.server, "192.0.2.50,192.0.2.59,1h", "2001:db8::50,2001:db8::59,64,1h")
	k, stop := s.keep(t)
	s.has(t, k, "both addresses are leased", func(l snapshot.NodeLease) bool { return l.Addr.IsValid() })
	stop()
	server.Stop(t)
	s.server.Run(t, "ip", "addr", "del", "2001:db8::1/64", "dev", "eth0")
	s.server.Run(t, "ip", "addr", "add", "2001:db8:1::1/64", "dev", "eth0", "nodad")
	routertest.StartDnsmasq(t, s.server, "192.0.2.80,192.0.2.89,1h", "2001:db8:1::80,2001:db8:1::89,64,1h")
	k, _ = s.keep(t) // which asks to renew at once
	ranges := map[snapshot.Family]string{snapshot.IPv4: "192.0.2.8", snapshot.IPv6: "2001:db8:1::8"}
	s.has(t, k, "other addresses are leased", func(l snapshot.NodeLease) bool { return within(l, ranges) })
}

// TestDnsmasqConflict: an address that another host has is declined, and the server leases
// another one.
func TestDnsmasqConflict(t *testing.T) {
	t.Parallel()
	s := newSite(t, snapshot.IPv4, snapshot.IPv6)
	server := routertest.StartDnsmasq(t, s.server, "192.0.2.50,192.0.2.59,1h", "2001:db8::50,2001:db8::59,64,1h")
	k, _ := s.keep(t)
	s.has(t, k, "both addresses are leased", func(l snapshot.NodeLease) bool { return l.Addr.IsValid() })
	before := map[netip.Addr]bool{}
	for _, l := range s.pool.Leases {
		before[l.Addr] = true
		s.records = append(s.records, &snapshot.Address{Addr: l.Addr, Lease: uid, Conflict: "02:00:00:00:00:66"})
	}
	k.Follow(s.inputs())
	nstest.Eventually(t, "it is said that another host has them", func() bool {
		for _, l := range k.Leases() {
			if !strings.Contains(l.Message, "02:00:00:00:00:66 has ") || l.Addr.IsValid() {
				return false
			}
		}
		return len(server.Leases(t)) == 0
	})
	s.has(t, k, "other addresses are leased", func(l snapshot.NodeLease) bool { return l.Addr.IsValid() && !before[l.Addr] })
}

// TestDnsmasqHostile: what a server offers is not taken if the cluster has it already, and
// why is said.
func TestDnsmasqHostile(t *testing.T) {
	t.Parallel()
	s := newSite(t, snapshot.IPv4)
	server := routertest.StartDnsmasq(t, s.server, "192.0.2.12,192.0.2.12,1h")
	k, _ := s.keep(t)
	want := "the DHCP server 192.0.2.1 offers 192.0.2.12, which is refused: it is an address of node n1"
	s.has(t, k, "the offer is refused", func(l snapshot.NodeLease) bool { return l.Message == want && !l.Addr.IsValid() })
	if given := server.Leases(t); len(given) != 0 {
		t.Errorf("the server has leased %v", given)
	}
}

// TestDnsmasqOfOthers: a server that the pool does not name counts for nothing.
func TestDnsmasqOfOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t, snapshot.IPv4)
	s.pool.FromDHCP.Servers = []netip.Addr{netip.MustParseAddr("192.0.2.2")}
	routertest.StartDnsmasq(t, s.server, "192.0.2.50,192.0.2.59,1h")
	k, _ := s.keep(t)
	s.has(t, k, "the offer is refused", func(l snapshot.NodeLease) bool {
		return strings.HasSuffix(l.Message, "the server is not one of the servers of pool lan")
	})
}

// TestLinkComesLater: a link that is not there yet is tried again, and its lease is asked
// for when it is.
func TestLinkComesLater(t *testing.T) {
	t.Parallel()
	s := newSite(t, snapshot.IPv4)
	s.node.Run(t, "ip", "link", "set", "eth0", "down")
	s.node.Run(t, "ip", "link", "set", "eth0", "name", "late")
	k, _ := s.keep(t)
	routertest.StartDnsmasq(t, s.server, "192.0.2.50,192.0.2.59,1h")
	s.node.Run(t, "ip", "link", "set", "late", "name", "eth0")
	s.node.Run(t, "ip", "link", "set", "eth0", "up")
	s.has(t, k, "the address is leased", func(l snapshot.NodeLease) bool { return l.Addr.IsValid() })
	s.node.Run(t, "ip", "link", "set", "eth0", "down")
	s.node.Run(t, "ip", "link", "set", "eth0", "up")
	s.pool = s.pool.WithLeases(append(s.pool.Leases, snapshot.PoolLease{Ref: snapshot.Ref{Namespace: "default", Name: "more"}, ID: "more", Family: snapshot.IPv4}))
	k.Follow(s.inputs())
	nstest.Eventually(t, "a second one too, after the link was down", func() bool {
		said := k.Leases()
		return len(said) == 2 && said[0].Addr.IsValid() && said[1].Addr.IsValid() && fmt.Sprint(said[0].Addr) != fmt.Sprint(said[1].Addr)
	})
}
