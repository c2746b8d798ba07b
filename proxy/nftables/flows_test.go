package nftables

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// flowsTable is a Table with Frontends of each kind whose flows may be stale.
func flowsTable() *proxy.Table {
	udp, tcp, sctp := snapshot.UDP, snapshot.TCP, snapshot.SCTP
	local := front(proxy.VIP, udp, remote)
	local.LocalOnly, local.Local = true, []netip.AddrPort{ep(podA)}
	serving := func(p snapshot.Protocol) *proxy.Frontend {
		f := front(proxy.ClusterIP, p, podA)
		f.Port, f.Serving = 81, []netip.AddrPort{ep(podA), ep(podB)}
		return f
	}
	lost := front(proxy.ClusterIP, tcp, podA)
	lost.Port, lost.Lost = 82, []netip.AddrPort{ep(remote)}
	narrow := func(p snapshot.Protocol) *proxy.Frontend {
		f := front(proxy.VIP, p, podA)
		f.Port, f.Sources = 83, []netip.Prefix{netip.PrefixFrom(node, 32)}
		return f
	}
	ranged := func(p snapshot.Protocol) *proxy.Frontend {
		f := front(proxy.VIP, p)
		f.Addr, f.Port, f.Ranges = addr(202, 1), 0, []snapshot.PortRange{{Protocol: p, First: 10000, Last: 20000}}
		f.Cluster, f.Lost = []netip.AddrPort{netip.AddrPortFrom(podA, 0)}, []netip.AddrPort{netip.AddrPortFrom(remote, 0)}
		f.Serving = []netip.AddrPort{netip.AddrPortFrom(podA, 0), netip.AddrPortFrom(podB, 0)}
		return f
	}
	confined := ranged(tcp)
	confined.Addr, confined.Members = addr(204, 1), []netip.AddrPort{netip.AddrPortFrom(podA, 0)}
	external := front(proxy.ExternalIP, udp, podA)
	external.Addr = addr(201, 1)
	table := &proxy.Table{NodePortAddrs: []netip.Addr{node}, Frontends: []*proxy.Frontend{
		front(proxy.ClusterIP, udp, podA), front(proxy.ClusterIP, tcp, podA), front(proxy.ClusterIP, sctp, podA), lost,
		serving(udp), serving(tcp), serving(sctp), local, narrow(udp), narrow(tcp), narrow(sctp), external,
		ranged(udp), ranged(tcp), ranged(sctp), confined,
		front(proxy.NodePort, udp, podA)}}
	slices.SortFunc(table.Frontends, func(a, b *proxy.Frontend) int { return a.Key.Compare(b.Key) })
	return table
}

// spec 84: which flows end.
func TestStaleFlow(t *testing.T) {
	table := flowsTable()
	gone := map[proxy.Key]bool{}
	for _, p := range Protocols {
		gone[proxy.Key{Kind: proxy.ClusterIP, Family: snapshot.IPv4, Addr: other, Protocol: p, Port: 80}] = true
		gone[proxy.Key{Kind: proxy.NodePort, Family: snapshot.IPv4, Protocol: p, Port: 30081}] = true
		gone[proxy.Key{Kind: proxy.VIP, Family: snapshot.IPv4, Addr: addr(203, 1), Protocol: p}] = true
	}
	at := netip.AddrPortFrom
	// Of UDP, SCTP, TCP that waits for an answer, and TCP that has one: which end.
	for _, c := range []struct {
		what     string
		to, from netip.AddrPort
		stale    string
	}{
		{"a current endpoint", at(clusterIP, 80), ep(podA), "----"},
		{"another endpoint", at(clusterIP, 80), ep(podB), "ust-"},
		{"the endpoint on another port", at(clusterIP, 80), at(podA, 8081), "ust-"},
		{"not translated", at(clusterIP, 80), at(clusterIP, 80), "ust-"},
		{"an endpoint that only serves", at(clusterIP, 81), ep(podB), "--t-"},
		{"an endpoint that serves no longer", at(clusterIP, 81), ep(remote), "ust-"},
		{"an endpoint on a lost node", at(clusterIP, 82), ep(remote), "usta"},
		{"an undefined port", at(clusterIP, 84), ep(podB), "ust-"},
		{"an undefined port, not translated", at(clusterIP, 84), at(clusterIP, 84), "----"},
		{"a deleted Frontend", at(other, 80), ep(podA), "ust-"},
		{"a deleted Frontend, not translated", at(other, 80), at(other, 80), "ust-"},
		{"another port of a deleted Service", at(other, 81), ep(podA), "----"},
		{"a local endpoint", at(vip, 80), ep(podA), "-st-"},
		{"an endpoint of the short circuit", at(vip, 80), ep(remote), "-st-"},
		{"a source that is not allowed", at(vip, 83), ep(podA), "ust-"},
		{"another provider's address", at(addr(201, 1), 80), ep(podB), "u---"},
		{"another port of another provider's address", at(addr(201, 1), 81), ep(podB), "----"},
		{"a node port", at(node, 30080), ep(podA), "----"},
		{"a node port's former endpoint", at(node, 30080), ep(podB), "u---"},
		{"a node port that was deleted", at(node, 30081), ep(podB), "ust-"},
		{"that port of another host", at(client, 30080), ep(podB), "----"},
		{"a range of ports", at(addr(202, 1), 10007), at(podA, 10007), "----"},
		{"a range of ports, an endpoint that only serves", at(addr(202, 1), 10007), at(podB, 10007), "--t-"},
		{"a range of ports, an endpoint on a lost node", at(addr(202, 1), 10007), at(remote, 10007), "usta"},
		{"a range of ports, another port of the endpoint", at(addr(202, 1), 10007), at(podA, 8080), "ust-"},
		{"a port outside of the range", at(addr(202, 1), 9999), at(podA, 9999), "ust-"},
		{"a deleted range of ports", at(addr(203, 1), 10007), at(podA, 10007), "ust-"},
		{"a range of ports, an endpoint that was removed", at(addr(204, 1), 10007), at(podB, 10007), "usta"},
		{"a range of ports, an endpoint that is not removed", at(addr(204, 1), 10007), at(podA, 10007), "us--"},
		{"a pod directly", ep(podB), ep(podB), "----"},
	} {
		got := ""
		for i, f := range []Flow{{snapshot.UDP, client, 1000, c.to, c.from, true}, {snapshot.SCTP, client, 1000, c.to, c.from, true},
			{snapshot.TCP, client, 1000, c.to, c.from, false}, {snapshot.TCP, client, 1000, c.to, c.from, true}} {
			if f.Stale(table, gone) {
				got += "usta"[i : i+1]
			} else {
				got += "-"
			}
		}
		if got != c.stale {
			t.Errorf("%s: %q end, want %q", c.what, got, c.stale)
		}
	}
}

// After which changes connections have to be compared.
func TestConcerned(t *testing.T) {
	table := func(fronts ...*proxy.Frontend) *proxy.Table { return &proxy.Table{Frontends: fronts} }
	with := func(change func(f *proxy.Frontend), endpoints ...netip.Addr) *proxy.Table {
		f := front(proxy.VIP, snapshot.UDP, endpoints...)
		change(f)
		return table(f)
	}
	same := func(*proxy.Frontend) {}
	serving := func(f *proxy.Frontend) { f.Serving = []netip.AddrPort{ep(podA), ep(podB)} }
	lost := func(f *proxy.Frontend) { f.Lost = []netip.AddrPort{ep(podB)} }
	sources := func(n int) func(f *proxy.Frontend) {
		return func(f *proxy.Frontend) { f.Sources = []netip.Prefix{netip.PrefixFrom(client, n)} }
	}
	for _, c := range []struct {
		what     string
		old, now *proxy.Table
		want     string
	}{
		{"nothing", with(same, podA), with(same, podA), ""},
		{"an endpoint more", with(same, podA), with(same, podA, podB), ""},
		{"an endpoint less", with(same, podA, podB), with(same, podA), "later"},
		{"an endpoint that terminates", with(same, podA, podB), with(serving, podA), "later"},
		{"it no longer serves", with(serving, podA), with(same, podA), "later"},
		{"it is lost", with(same, podA), with(lost, podA), "urgent"},
		{"it is found again", with(lost, podA), with(same, podA), ""},
		{"scaled to zero", with(same, podA), with(same), "later"},
		{"the first endpoint", with(same), with(same, podA), "urgent"},
		{"no endpoint still", with(same), with(same), ""},
		{"a new Frontend", table(), with(same, podA), "urgent"},
		{"a deleted Frontend", with(same, podA), table(), "later"},
		{"other sources", with(sources(24), podA), with(sources(25), podA), "urgent"},
		{"all sources", with(sources(24), podA), with(same, podA), ""},
	} {
		all := Concerned(c.old, c.now)
		got := ""
		if urgent, concerned := all[Network{snapshot.UDP, snapshot.IPv4}]; urgent {
			got = "urgent"
		} else if concerned {
			got = "later"
		}
		if got != c.want || len(all) > 1 {
			t.Errorf("%s: got %v, want UDP over IPv4 %q", c.what, all, c.want)
		}
	}
}

// An endpoint that terminates has answered all its TCP connections: when it goes in the
// end, none has to be looked for.
func TestConcernedByATerminatingEndpoint(t *testing.T) {
	for _, c := range []struct {
		protocol  snapshot.Protocol
		concerned bool
	}{{snapshot.TCP, false}, {snapshot.UDP, true}, {snapshot.SCTP, true}} {
		was, now := front(proxy.VIP, c.protocol, podA), front(proxy.VIP, c.protocol, podA)
		was.Serving = []netip.AddrPort{ep(podA), ep(podB)}
		got := Concerned(&proxy.Table{Frontends: []*proxy.Frontend{was}}, &proxy.Table{Frontends: []*proxy.Frontend{now}})
		if len(got) == 1 != c.concerned {
			t.Errorf("%s: got %v, want %v", c.protocol, got, c.concerned)
		}
	}
}

// Gone finds the Frontends that a Sync takes out, also one of an earlier process.
func TestGone(t *testing.T) {
	stays, goes := front(proxy.ClusterIP, snapshot.UDP, podA), front(proxy.VIP, snapshot.UDP, podA)
	r, _ := Adopt(nothing(), &proxy.Table{Frontends: []*proxy.Frontend{stays, goes}}, DefaultMark, false)
	_, patches := r.Next(&proxy.Table{Frontends: []*proxy.Frontend{stays}})
	if got := Gone(patches); len(got) != 1 || got[0] != goes.Key {
		t.Errorf("got %v, want %v", got, goes.Key)
	}
}
