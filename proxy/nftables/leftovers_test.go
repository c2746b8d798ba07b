package nftables

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// The addresses of the tables here: pods, the node, a client, Services.
var (
	podA, podB, remote    = addr(1, 2), addr(1, 3), addr(2, 2)
	node, client          = addr(0, 1), addr(0, 2)
	clusterIP, other, vip = addr(96, 1), addr(96, 2), addr(200, 1)
)

func addr(net, host byte) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, net, host}) }

func ep(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, 8080) }

// front makes a Frontend on port 80, 30080 for a node port.
func front(kind proxy.Kind, p snapshot.Protocol, endpoints ...netip.Addr) *proxy.Frontend {
	f := &proxy.Frontend{Key: proxy.Key{Kind: kind, Family: snapshot.IPv4, Addr: vip, Protocol: p, Port: 80}}
	switch kind {
	case proxy.ClusterIP:
		f.Addr = clusterIP
	case proxy.NodePort:
		f.Addr, f.Port = netip.Addr{}, 30080
	}
	for _, e := range endpoints {
		f.Cluster = append(f.Cluster, ep(e))
	}
	if len(endpoints) == 0 {
		f.Empty = proxy.Reject
	}
	return f
}

// spec 84: which flows end.
func TestStaleFlow(t *testing.T) {
	local := front(proxy.VIP, snapshot.UDP, remote)
	local.LocalOnly, local.Local = true, []netip.AddrPort{ep(podA)}
	table := &proxy.Table{NodePortAddrs: []netip.Addr{node}, Frontends: []*proxy.Frontend{
		front(proxy.ClusterIP, snapshot.UDP, podA), local, front(proxy.NodePort, snapshot.UDP, podA)}}
	gone := map[proxy.Key]bool{{Kind: proxy.ClusterIP, Family: snapshot.IPv4, Addr: other, Protocol: snapshot.UDP, Port: 80}: true}
	at := netip.AddrPortFrom
	for _, c := range []struct {
		what     string
		to, from netip.AddrPort
		stale    bool
	}{
		{"a current endpoint", at(clusterIP, 80), ep(podA), false},
		{"another endpoint", at(clusterIP, 80), ep(podB), true},
		{"the endpoint on another port", at(clusterIP, 80), at(podA, 8081), true},
		{"not translated", at(clusterIP, 80), at(clusterIP, 80), true},
		{"an undefined port", at(clusterIP, 81), ep(podB), false},
		{"a deleted Frontend", at(other, 80), ep(podA), true},
		{"a local endpoint", at(vip, 80), ep(podA), false},
		{"an endpoint of the short circuit", at(vip, 80), ep(remote), false},
		{"a node port", at(node, 30080), ep(podA), false},
		{"a node port's former endpoint", at(node, 30080), ep(podB), true},
		{"that port of another host", at(client, 30080), ep(podB), false},
		{"a pod directly", ep(podB), ep(podB), false},
	} {
		if got := (Flow{snapshot.UDP, c.to, c.from, true}).Stale(table, gone); got != c.stale {
			t.Errorf("%s: got %v", c.what, got)
		}
	}
}

// leftoversOf returns what a Sync leaves that follows one with old.
func leftoversOf(old, now []*proxy.Frontend, at time.Time) *Leftovers {
	r, _ := Adopt(nothing(), &proxy.Table{Frontends: old}, DefaultMark, false)
	_, patches := r.Next(&proxy.Table{Frontends: now})
	l := &Leftovers{}
	l.Add(patches, at)
	return l
}

func TestLeftoverFlows(t *testing.T) {
	fronts := func(p snapshot.Protocol, endpoints ...netip.Addr) []*proxy.Frontend {
		return []*proxy.Frontend{front(proxy.VIP, p, endpoints...)}
	}
	udp, tcp := snapshot.UDP, snapshot.TCP
	for _, c := range []struct {
		what         string
		old, now     []*proxy.Frontend
		flows, dials bool
	}{
		{"nothing", fronts(udp, podA), fronts(udp, podA), false, false},
		{"UDP: an endpoint more", fronts(udp, podA), fronts(udp, podA, podB), false, false},
		{"UDP: an endpoint less", fronts(udp, podA, podB), fronts(udp, podA), true, false},
		{"UDP: scaled to zero", fronts(udp, podA), fronts(udp), true, false},
		{"UDP: the first endpoint", fronts(udp), fronts(udp, podA), true, false},
		{"UDP: a new Frontend", nil, fronts(udp, podA), true, false},
		{"UDP: a deleted Frontend", fronts(udp, podA), nil, true, false},
		{"UDP: another endpoint", fronts(udp, podA), fronts(udp, podB), true, false},
		{"TCP: an endpoint more", fronts(tcp, podA), fronts(tcp, podA, podB), false, false},
		{"TCP: an endpoint less", fronts(tcp, podA, podB), fronts(tcp, podA), false, true},
		{"TCP: scaled to zero", fronts(tcp, podA), fronts(tcp), false, true},
		{"TCP: a new Frontend", nil, fronts(tcp, podA), false, false},
		{"TCP: a deleted Frontend", fronts(tcp, podA), nil, false, false},
		{"TCP: another endpoint", fronts(tcp, podA), fronts(tcp, podB), false, true},
	} {
		now := time.Date(2020, 1, 1, 0, 0, 0, 1, time.UTC)
		l := leftoversOf(c.old, c.now, now)
		if flows, dials := len(l.Flows) > 0, len(l.Dials) > 0; flows != c.flows || dials != c.dials {
			t.Errorf("%s: flows %v, dials %v", c.what, flows, dials)
			continue
		}
		early, again := l.Due(now.Add(UnansweredFor))
		late, _ := l.Due(again)
		if len(early) > 0 || len(late) > 0 != c.dials || again.Sub(now) > UnansweredFor+SweepEvery {
			t.Errorf("%s: due %v, and %v at %v", c.what, early, late, again)
		}
	}
}

// The clients of a slot are forgotten when it means another endpoint or none, or
// when the affinity ends.
func TestLeftoverClients(t *testing.T) {
	sticky := func(endpoints ...netip.Addr) []*proxy.Frontend {
		f := front(proxy.VIP, snapshot.TCP, endpoints...)
		f.Affinity = time.Hour
		return []*proxy.Frontend{f}
	}
	for _, c := range []struct {
		what     string
		old, now []*proxy.Frontend
		sets     []string
	}{
		{"nothing", sticky(podA, podB), sticky(podA, podB), nil},
		{"an endpoint more", sticky(podA), sticky(podA, podB), nil},
		{"the last one less", sticky(podA, podB), sticky(podA), []string{"affinity-1"}},
		{"the first one less", sticky(podA, podB), sticky(podB), []string{"affinity-0"}},
		{"deleted", sticky(podA, podB), nil, []string{"affinity-0", "affinity-1"}},
		{"without affinity", sticky(podA), []*proxy.Frontend{front(proxy.VIP, snapshot.TCP, podA)}, []string{"affinity-0"}},
		{"with affinity", []*proxy.Frontend{front(proxy.VIP, snapshot.TCP, podA)}, sticky(podA), nil},
	} {
		l := leftoversOf(c.old, c.now, time.Now())
		if len(l.Clients[IP4]) != len(c.sets) {
			t.Errorf("%s: %q, want %q", c.what, l.Clients[IP4], c.sets)
		}
		for _, set := range c.sets {
			if len(l.Clients[IP4][set]) != 1 {
				t.Errorf("%s: %q in %s, want one Frontend", c.what, l.Clients[IP4][set], set)
			}
		}
	}
}
