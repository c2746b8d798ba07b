package netlink

import (
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// Another cluster behind the router has the VIP too. Without an endpoint here, pods and
// the node itself reach it, and reach this cluster's endpoint as soon as there is one.
// So does a pod's datagram socket that is open all the time. Packets to the VIP are
// refused only while the node announces it.
func TestAddressOfTwoClusters(t *testing.T) {
	l := newLab(t)
	for _, f := range bothFamilies {
		vip := addressesOf(f).vip
		l.client.Run(t, "ip", "addr", "add", netip.PrefixFrom(vip, vip.BitLen()).String(), "dev", "lo", "nodad")
		serve(t, l.client, netip.AddrPortFrom(vip, 80).String(), "elsewhere")
	}
	each(t, func(t *testing.T, a addressing, network string) {
		vip := netip.AddrPortFrom(a.vip, 80)
		compiled := func(ready bool) *proxy.Table {
			protocol := snapshot.TCP
			if network == "udp" {
				protocol = snapshot.UDP
			}
			svc := &snapshot.Service{
				Ref: snapshot.Ref{Namespace: "default", Name: "web"}, UID: "u", Type: snapshot.LoadBalancer, Anycast: true, ClusterIPs: []netip.Addr{a.clusterIP},
				Ports: []snapshot.Port{{Protocol: protocol, Port: 80}}, Ingress: []snapshot.Ingress{{IP: a.vip}},
				Endpoints: []snapshot.Endpoint{{Protocol: protocol, Addr: a.ep(a.podA), Node: "n", Ready: ready}},
			}
			s := &snapshot.Snapshot{
				Services: []*snapshot.Service{svc}, Nodes: []*snapshot.Node{{Name: "n", InternalIPs: []netip.Addr{a.node}, PodCIDRs: []netip.Prefix{a.pods}}},
				Addresses: []*snapshot.Address{{Addr: a.vip, UID: "a", Holders: []snapshot.Holder{{Ref: svc.Ref, UID: "u"}}}},
			}
			return proxy.Compile(s, "n", []netip.Addr{a.node}, proxy.Options{})
		}
		announced := []netip.Prefix{netip.PrefixFrom(a.vip, a.vip.BitLen())}
		refuse := func(prefixes []netip.Prefix) {
			t.Helper()
			l.node.Do(t, func() error { return link.Refuse(prefixes, nil) })
		}
		src := netip.AddrPort{}
		if network == "udp" {
			src = netip.AddrPortFrom(a.podB, 42000)
		}
		fromPod := func() string { return l.podB.outcome(network, vip, src, brief) }
		fromNode := func() string { return l.node.outcome(network, vip, netip.AddrPort{}, brief) }
		for range 2 {
			refuse(nil)
			sync(t, l.engine, compiled(false))
			soon(t, "a pod, without an endpoint", fromPod, "elsewhere "+a.podB.String())
			soon(t, "the node, without an endpoint", fromNode, "elsewhere "+a.node.String())
			sync(t, l.engine, compiled(true))
			refuse(announced)
			soon(t, "a pod, with an endpoint", fromPod, "podA "+a.nodeOnA.String())
			soon(t, "the node, with an endpoint", fromNode, "podA "+a.nodeOnA.String())
		}
		refuse(nil)
	})
}
