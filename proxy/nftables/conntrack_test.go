package nftables

import (
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

func TestStaleFlow(t *testing.T) {
	a := addressesOf(snapshot.IPv4)
	local := a.localOnly(a.front(proxy.VIP, "udp", a.remote), a.podA)
	table := a.table(a.front(proxy.ClusterIP, "udp", a.podA), local, a.front(proxy.NodePort, "udp", a.podA))
	gone := map[proxy.Key]bool{{Kind: proxy.ClusterIP, Family: snapshot.IPv4, Addr: a.other, Protocol: snapshot.UDP, Port: 80}: true}
	at := netip.AddrPortFrom
	for _, c := range []struct {
		what  string
		flow  flow
		stale bool
	}{
		{"a current endpoint", flow{at(a.clusterIP, 80), a.ep(a.podA)}, false},
		{"another endpoint", flow{at(a.clusterIP, 80), a.ep(a.podB)}, true},
		{"the endpoint on another port", flow{at(a.clusterIP, 80), at(a.podA, 8081)}, true},
		{"not translated", flow{at(a.clusterIP, 80), at(a.clusterIP, 80)}, true},
		{"an undefined port", flow{at(a.clusterIP, 81), a.ep(a.podB)}, false},
		{"a deleted Frontend", flow{at(a.other, 80), a.ep(a.podA)}, true},
		{"a local endpoint", flow{at(a.vip, 80), a.ep(a.podA)}, false},
		{"an endpoint of the short circuit", flow{at(a.vip, 80), a.ep(a.remote)}, false},
		{"a node port", flow{at(a.node, 30080), a.ep(a.podA)}, false},
		{"a node port's former endpoint", flow{at(a.node, 30080), a.ep(a.podB)}, true},
		{"that port of another host", flow{at(a.client, 30080), a.ep(a.podB)}, false},
		{"a pod directly", flow{a.ep(a.podB), a.ep(a.podB)}, false},
	} {
		if got := staleFlow(c.flow, table, gone); got != c.stale {
			t.Errorf("%s: got %v", c.what, got)
		}
	}
}

func TestUDPChanges(t *testing.T) {
	a := addressesOf(snapshot.IPv4)
	front := func(network string, endpoints ...netip.Addr) []*proxy.Frontend {
		return []*proxy.Frontend{a.front(proxy.VIP, network, endpoints...)}
	}
	for _, c := range []struct {
		what     string
		old, now []*proxy.Frontend
		want     bool
	}{
		{"nothing", front("udp", a.podA), front("udp", a.podA), false},
		{"an endpoint more", front("udp", a.podA), front("udp", a.podA, a.podB), false},
		{"an endpoint less", front("udp", a.podA, a.podB), front("udp", a.podA), true},
		{"scaled to zero", front("udp", a.podA), front("udp"), true},
		{"the first endpoint", front("udp"), front("udp", a.podA), true},
		{"a new Frontend", nil, front("udp", a.podA), true},
		{"a deleted Frontend", front("udp", a.podA), nil, true},
		{"TCP", front("tcp", a.podA), front("tcp", a.podB), false},
	} {
		before, _ := frontendsDiff(nil, c.old)
		_, changes := frontendsDiff(before, c.now)
		keys := map[proxy.Key]bool{}
		udpChanges(changes, keys)
		if got := len(keys) > 0; got != c.want {
			t.Errorf("%s: got %v", c.what, got)
		}
	}
}

// A client that keeps its port follows its Service: to another endpoint, out
// when there is none, back in, and out when the Service is deleted.
func TestUDPFlowsFollow(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		for _, kind := range []proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.NodePort} {
			t.Run(family.String()+"/"+kind.String(), func(t *testing.T) {
				a := addressesOf(family)
				f := a.front(kind, "udp", a.podA)
				src := netip.AddrPortFrom(a.client, 40000)
				from := func() string { return l.client.outcome("udp", a.address(f), src, patient) }
				onA, onB := "podA "+a.nodeOnA.String(), "podB "+a.nodeOnB.String()
				for i, step := range []struct {
					now  []*proxy.Frontend
					want string
				}{
					{[]*proxy.Frontend{f}, onA},
					{[]*proxy.Frontend{a.front(kind, "udp", a.podB)}, onB},
					{[]*proxy.Frontend{a.front(kind, "udp")}, "refused"},
					{[]*proxy.Frontend{a.front(kind, "udp", a.podA, a.podB)}, ""},
					{[]*proxy.Frontend{a.front(kind, "udp", a.podA)}, onA},
				} {
					sync(t, l.engine, a.table(step.now...))
					if got := from(); got != step.want && step.want != "" {
						t.Errorf("step %d: got %q, want %q", i, got, step.want)
					}
				}
				// A new process knows of the flow only from the kernel.
				sync(t, l.node.engine(t), a.table(a.front(kind, "udp", a.podB)))
				if got := from(); got != onB {
					t.Errorf("after a restart: got %q", got)
				}
				sync(t, l.engine, a.table())
				if got := l.client.outcome("udp", a.address(f), src, brief); got == onB {
					t.Errorf("after the Service was deleted: got %q", got)
				}
			})
		}
	}
}
