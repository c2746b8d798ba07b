package netlink

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
)

// serveEcho tells each client its address and port, over UDP.
func serveEcho(t *testing.T, s space, on string) {
	t.Helper()
	var c net.PacketConn
	s.Do(t, func() (err error) {
		c, err = net.ListenPacket("udp", on)
		return err
	})
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 64)
		for {
			_, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo([]byte(from.String()+"\n"), from)
		}
	}()
}

// With KeepPorts a masqueraded connection keeps its source port if that is free on the
// node, and gets another one if not. Without, it is a random one.
func TestSourcePortsAreKept(t *testing.T) {
	l := newLab(t)
	serveEcho(t, l.podA, ":5060")
	for _, family := range bothFamilies {
		a := addressesOf(family)
		for _, kind := range []proxy.Kind{proxy.VIP, proxy.NodePort, proxy.ClusterIP} {
			f := a.front(kind, "udp")
			f.Cluster, f.Empty = []netip.AddrPort{netip.AddrPortFrom(a.podA, 5060)}, proxy.Forward
			table := a.table(f)
			table.KeepPorts = []proxy.Target{{Protocol: f.Protocol, Addr: f.Cluster[0]}}
			sync(t, l.engine, table)
			port := uint16(5000 + 10*int(kind)) // of flows that no other has
			seen := func(src netip.Addr) string {
				t.Helper()
				got := l.client.outcome("udp", a.address(f), netip.AddrPortFrom(src, port), patient)
				at, err := netip.ParseAddrPort(got)
				if err != nil {
					t.Fatalf("%s %s: %q", family, kind, got)
				}
				if at.Addr().Unmap() != a.nodeOnA {
					t.Errorf("%s %s: the pod sees %s", family, kind, at)
				}
				return got[strings.LastIndex(got, ":")+1:]
			}
			first, second := seen(a.client), seen(a.client2)
			if want := netip.AddrPortFrom(a.client, port).String(); !strings.HasSuffix(want, ":"+first) || second == first {
				t.Errorf("%s %s: port %d became %s, and for another client %s", family, kind, port, first, second)
			}
		}
	}
}

// So many clients reach one pod through one VIP at the same time: all source ports of the
// node but a few. The kernel tries some 200 ports for a new connection, so that it drops the
// first packet of one in thousands. The client sends it again.
func TestSixtyThousandClients(t *testing.T) {
	if os.Getenv("FAIRLEAD_E2E_ALL") == "" {
		t.Skip("it takes a minute: run it with make e2e WHAT=networks")
	}
	l := newLab(t)
	a := addressesOf(snapshot.IPv4)
	serveEcho(t, l.podA, ":5060")
	l.node.Run(t, "sysctl", "-qw", "net.netfilter.nf_conntrack_udp_timeout=600") // for as long as the slowest machine takes
	f := a.front(proxy.VIP, "udp")
	f.Cluster, f.Empty = []netip.AddrPort{netip.AddrPortFrom(a.podA, 5060)}, proxy.Forward
	sync(t, l.engine, a.table(f))
	ports := map[string]bool{}
	lost := 0
	each := nstest.Few(30_000)
	for _, src := range []netip.Addr{a.client, a.client2} {
		for i := range each {
			for range 50 {
				got := l.client.outcome("udp", a.address(f), netip.AddrPortFrom(src, uint16(10_000+i)), brief)
				if at, err := netip.ParseAddrPort(got); err == nil {
					ports[at.String()] = true
					break
				}
				lost++
			}
		}
	}
	t.Logf("%d clients, %d packets were sent again", len(ports), lost)
	if len(ports) != 2*each || lost > each/100 {
		t.Errorf("%d ports are in use by %d clients, and %d packets were lost", len(ports), 2*each, lost)
	}
}
