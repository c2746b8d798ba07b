package dataplanetest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// Random makes a Table of about 40 Frontends of every kind, both families. A
// few Frontends are the same in most Tables, with other endpoints.
func Random(r *rand.Rand) *proxy.Table {
	t := &proxy.Table{}
	for range r.IntN(40) {
		t.Frontends = append(t.Frontends, randomFrontend(r))
	}
	slices.SortFunc(t.Frontends, func(a, b *proxy.Frontend) int { return a.Key.Compare(b.Key) })
	t.Frontends = slices.CompactFunc(t.Frontends, func(a, b *proxy.Frontend) bool { return a.Key == b.Key })
	for i := range 3 {
		if r.IntN(2) == 0 {
			t.NodePortAddrs = append(t.NodePortAddrs, netip.AddrFrom4([4]byte{198, 18, 0, byte(i)}))
		}
	}
	t.ServiceCIDRs = randomPrefixes(r, "10.96.%d.0/24", "fd98:0:96:%d::/112")
	t.LocalPods = randomPrefixes(r, "198.18.%d.0/25", "198.18.9.%d/32", "fd98:0:1:%d::/64", "fd98:0:9::%d/128") // some are neighbours
	for _, name := range []string{"cali*", "cni0", "veth*"} {
		if r.IntN(4) == 0 {
			t.LocalLinks = append(t.LocalLinks, name)
		}
	}
	for _, name := range []string{"eth0", "eth1"} {
		if r.IntN(4) == 0 {
			t.Uplinks = append(t.Uplinks, name)
		}
	}
	for i, name := range []string{"eth0", "eth1"} {
		if r.IntN(4) == 0 {
			t.Ways = append(t.Ways, proxy.Way{Link: name, Number: 1 + (i+r.IntN(2))%2, VRF: []string{"", "", "blue", "red"}[r.IntN(4)]})
		}
	}
	for _, ep := range randomEndpoints(r, snapshot.IPv4, 4) {
		t.Hairpin = append(t.Hairpin, proxy.Target{Protocol: snapshot.TCP, Addr: ep})
		if r.IntN(2) == 0 {
			t.Hairpin = append(t.Hairpin, proxy.Target{Protocol: snapshot.TCP, Addr: anyPort(ep)})
		}
	}
	slices.SortFunc(t.Hairpin, proxy.Target.Compare)
	for _, ep := range randomEndpoints(r, snapshot.IPv6, 4) {
		t.KeepPorts = append(t.KeepPorts, proxy.Target{Protocol: snapshot.UDP, Addr: ep})
		if r.IntN(2) == 0 {
			t.KeepPorts = append(t.KeepPorts, proxy.Target{Protocol: snapshot.UDP, Addr: anyPort(ep)})
		}
	}
	slices.SortFunc(t.KeepPorts, proxy.Target.Compare)
	return t
}

func randomFrontend(r *rand.Rand) *proxy.Frontend {
	kinds := []proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.ExternalIP, proxy.NodePort, proxy.Guard}
	f := &proxy.Frontend{Key: proxy.Key{
		Kind: kinds[r.IntN(len(kinds))], Family: []snapshot.Family{snapshot.IPv4, snapshot.IPv6}[r.IntN(2)],
		Protocol: []snapshot.Protocol{snapshot.TCP, snapshot.UDP, snapshot.SCTP}[r.IntN(3)], Port: uint16(80 + r.IntN(2)),
	}}
	n := byte(r.IntN(4))
	switch {
	case f.Kind == proxy.NodePort:
	case f.Family == snapshot.IPv4:
		f.Addr = netip.AddrFrom4([4]byte{10, 96, byte(f.Kind), n})
	default:
		f.Addr = netip.AddrFrom16([16]byte{0xfd, 0x98, 14: byte(f.Kind), 15: n})
	}
	if f.Kind == proxy.Guard {
		return f
	}
	f.Cluster = randomEndpoints(r, f.Family, 12)
	if f.Kind == proxy.VIP && r.IntN(3) == 0 {
		randomRanges(r, f)
	}
	f.LocalOnly = f.Kind != proxy.ClusterIP && r.IntN(2) == 0
	f.Directed = f.Kind == proxy.VIP && !f.LocalOnly && r.IntN(2) == 0
	if f.LocalOnly || f.Directed {
		for _, ep := range f.Cluster {
			if r.IntN(3) == 0 {
				f.Local = append(f.Local, ep)
			}
		}
	}
	switch {
	case len(f.Cluster) == 0:
		f.Empty = proxy.Reject
	case f.LocalOnly && len(f.Local) == 0:
		f.Empty = proxy.Drop
	}
	f.AllPorts = r.IntN(60) == 0 // seldom: it has many slots
	if r.IntN(3) == 0 {
		f.Affinity = time.Duration(1+r.IntN(3)) * time.Hour
	}
	if (f.Kind == proxy.VIP || f.Kind == proxy.ExternalIP) && r.IntN(3) == 0 {
		f.Sources = randomSources(r, f.Family)
	}
	return f
}

// randomRanges gives f ranges of ports instead of its port.
func randomRanges(r *rand.Rand, f *proxy.Frontend) {
	f.Port = 0
	for at := uint16(1 + r.IntN(100)); len(f.Ranges) == 0 || r.IntN(2) == 0; at += 1000 {
		f.Ranges = append(f.Ranges, snapshot.PortRange{Protocol: f.Protocol, First: at, Last: at + uint16(r.IntN(900))})
	}
	if r.IntN(4) == 0 {
		f.Ranges = []snapshot.PortRange{{Protocol: f.Protocol, First: 1, Last: 65535}}
	}
	for i, ep := range f.Cluster {
		f.Cluster[i] = anyPort(ep)
	}
}

// anyPort is an endpoint as Frontends with ranges of ports have it.
func anyPort(ep netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(ep.Addr(), 0) }

func randomSources(r *rand.Rand, family snapshot.Family) []netip.Prefix {
	all := randomPrefixes(r, "203.0.113.%d0/30", "fd98:0:ff%d::/48")
	return slices.DeleteFunc(all, func(p netip.Prefix) bool { return snapshot.FamilyOf(p.Addr()) != family })
}

func randomEndpoints(r *rand.Rand, family snapshot.Family, limit int) []netip.AddrPort {
	var out []netip.AddrPort
	for i := range r.IntN(limit + 1) {
		if r.IntN(3) == 0 {
			continue
		}
		a := netip.AddrFrom4([4]byte{198, 18, 1, byte(i)})
		if family == snapshot.IPv6 {
			a = netip.AddrFrom16([16]byte{0xfd, 0x98, 13: 1, 15: byte(i)})
		}
		out = append(out, netip.AddrPortFrom(a, uint16(8080+i%2)))
	}
	return out
}

func randomPrefixes(r *rand.Rand, formats ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, format := range formats {
		for i := 1; i < 4; i++ {
			if r.IntN(2) == 0 {
				out = append(out, netip.MustParsePrefix(fmt.Sprintf(format, i)).Masked())
			}
		}
	}
	return slices.Compact(out)
}
