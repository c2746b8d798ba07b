package netlink

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// ranged makes a Frontend with the ports from first to last.
func (a addressing) ranged(network string, first, last uint16, endpoints ...netip.Addr) *proxy.Frontend {
	f := a.front(proxy.VIP, network, endpoints...)
	f.Port, f.Ranges = 0, []snapshot.PortRange{{Protocol: f.Protocol, First: first, Last: last}}
	for i, ep := range f.Cluster {
		f.Cluster[i] = netip.AddrPortFrom(ep.Addr(), 0)
	}
	return f
}

// rangedTable is table with the hairpins of ranges of ports.
func (a addressing) rangedTable(frontends ...*proxy.Frontend) *proxy.Table {
	t := a.table(frontends...)
	var all []proxy.Target
	for _, p := range []snapshot.Protocol{snapshot.TCP, snapshot.UDP} {
		for _, pod := range []netip.Addr{a.podA, a.podB} {
			all = append(all, proxy.Target{Protocol: p, Addr: netip.AddrPortFrom(pod, 0)})
		}
	}
	t.Hairpin = append(all, t.Hairpin...)
	return t
}

// spec 109: each port of a range reaches the same port of an endpoint, by both families,
// from outside, from pods and from the node. A port that the Service has by itself goes
// where that says. What is outside is refused.
func TestRanges(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(a.vip, port) }
		onA, onRemote := "podA "+a.nodeOnA.String(), "remote "+a.nodeOnRemote.String()
		sync(t, l.engine, a.rangedTable(a.ranged(network, 8000, 8081, a.podA, a.remote)))
		l.client.wants(t, network, at(8080), onA, onRemote)
		l.client.wants(t, network, at(8081), "new-"+onA, "new-"+onRemote)
		l.podB.wants(t, network, at(8081), "new-"+onA, "new-"+onRemote)
		l.node.wants(t, network, at(8081), "new-"+onA, "new-"+onRemote)
		for _, port := range []uint16{7999, 8082} {
			if got := l.client.ask(network, at(port)); got != "refused" {
				t.Errorf("port %d: %q", port, got)
			}
		}
		own := a.front(proxy.VIP, network, a.podB)
		own.Port = 8081
		sync(t, l.engine, a.rangedTable(own, a.ranged(network, 1, 65535, a.podA)))
		l.client.wants(t, network, at(8081), "podB "+a.nodeOnB.String())
		l.client.wants(t, network, at(8080), onA)
		l.podA.wants(t, network, at(8080), onA) // it reaches itself
		sync(t, l.engine, a.rangedTable(a.ranged(network, 8080, 8080)))
		if got := l.client.ask(network, at(8080)); got != "refused" {
			t.Errorf("without endpoints: %q", got)
		}
	})
}

// spec 109: policy Local and source ranges hold for ranges of ports as well.
func TestRangesLocalAndSources(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		at := netip.AddrPortFrom(a.vip, 8081)
		f := a.ranged(network, 8000, 9000, a.podA, a.remote)
		f.LocalOnly, f.Local = true, []netip.AddrPort{netip.AddrPortFrom(a.podA, 0)}
		sync(t, l.engine, a.rangedTable(f))
		for range 8 {
			l.client.wants(t, network, at, "new-podA "+a.client.String())
		}
		l.podB.wants(t, network, at, "new-podA "+a.podB.String(), "new-remote "+a.podB.String())
		none := a.ranged(network, 8000, 9000, a.remote)
		none.LocalOnly, none.Empty = true, proxy.Drop
		sync(t, l.engine, a.rangedTable(none))
		l.client.silent(t, network, at)
		only := a.ranged(network, 8000, 9000, a.podA)
		only.Sources = []netip.Prefix{netip.PrefixFrom(a.client, a.client.BitLen())}
		sync(t, l.engine, a.rangedTable(only))
		l.client.wants(t, network, at, "new-podA "+a.nodeOnA.String())
		if got := l.client.outcome(network, at, netip.AddrPortFrom(a.client2, 0), brief); got != "nothing" {
			t.Errorf("from elsewhere: %q", got)
		}
		if got := l.client.outcome(network, netip.AddrPortFrom(a.vip, 9001), netip.AddrPortFrom(a.client2, 0), patient); got != "refused" {
			t.Errorf("from elsewhere, outside of the range: %q", got)
		}
	})
}

// spec 109: with affinity, a client stays with its endpoint over all ports of the ranges.
func TestRangesAffinity(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		f := a.ranged(network, 8000, 9000, a.podA, a.podB, a.remote)
		f.Affinity = time.Hour
		sync(t, l.engine, a.rangedTable(f))
		first := l.client.ask(network, netip.AddrPortFrom(a.vip, 8080))
		for range 12 {
			if got := l.client.ask(network, netip.AddrPortFrom(a.vip, 8081)); got != "new-"+first {
				t.Fatalf("after %q: %q", first, got)
			}
		}
	})
}

// spec 110: a UDP flow to a range ends when its endpoint goes, when its port is no longer
// in a range, and when the Service has the port by itself. Other flows stay.
func TestRangesFlows(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		t.Run(family.String(), func(t *testing.T) {
			a := addressesOf(family)
			ask := func(port uint16) func() string {
				return func() string {
					return l.client.outcome("udp", netip.AddrPortFrom(a.vip, port), netip.AddrPortFrom(a.client, 42000+port), brief)
				}
			}
			onA, onB := "podA "+a.nodeOnA.String(), "podB "+a.nodeOnB.String()
			sync(t, l.engine, a.rangedTable(a.ranged("udp", 8080, 8081, a.podA)))
			soon(t, "at first", ask(8080), onA)
			soon(t, "the other port at first", ask(8081), "new-"+onA)
			sync(t, l.engine, a.rangedTable(a.ranged("udp", 8080, 8081, a.podB)))
			soon(t, "another endpoint", ask(8080), onB)
			own := a.front(proxy.VIP, "udp", a.podA)
			own.Port = 8081
			sync(t, l.engine, a.rangedTable(own, a.ranged("udp", 8080, 8081, a.podB)))
			soon(t, "a port by itself", ask(8081), onA)
			sync(t, l.engine, a.rangedTable(a.ranged("udp", 8080, 8081, a.podB)))
			soon(t, "no longer by itself", ask(8081), "new-"+onB)
			sync(t, l.engine, a.rangedTable(a.ranged("udp", 8080, 8080, a.podB)))
			soon(t, "outside of the range", ask(8081), "refused")
			if got := ask(8080)(); got != onB {
				t.Errorf("the port that stays: %q", got)
			}
		})
	}
}

// An endpoint of a range that comes or goes writes data alone: no verdict, and nothing of
// the interval.
func TestRangesChangeWritesOneElement(t *testing.T) {
	l := newLab(t)
	a := addressesOf(snapshot.IPv4)
	table := func(endpoints ...netip.Addr) *proxy.Table {
		f := a.ranged("udp", 10000, 20000, endpoints...)
		f.Ranges = append(f.Ranges, snapshot.PortRange{Protocol: snapshot.UDP, First: 30000, Last: 40000})
		return a.rangedTable(f)
	}
	sync(t, l.engine, table(a.podA, a.podB))
	if c := sync(t, l.engine, table(a.podA, a.remote)); c.Added != 1 || c.Deleted != 1 || c.Rebuilt {
		t.Errorf("an endpoint was replaced: %+v", c)
	}
}
