package proxy_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// many makes a Snapshot of n Services with this many endpoints each, on ten nodes.
func many(n, endpoints int) *snapshot.Snapshot {
	s := &snapshot.Snapshot{}
	for i := range 10 {
		s.Nodes = append(s.Nodes, &snapshot.Node{Name: fmt.Sprint("node", i), PodCIDRs: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 100 + byte(i), 0, 0}), 16)}})
	}
	for i := range n {
		svc := &snapshot.Service{
			Ref: snapshot.Ref{Namespace: fmt.Sprint("ns", i%50), Name: fmt.Sprint("service", i)}, Type: snapshot.LoadBalancer, UID: fmt.Sprint(i),
			ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96 + byte(i>>16), byte(i >> 8), byte(i)})},
			Ports:      []snapshot.Port{{Name: "http", Protocol: snapshot.TCP, Port: 80, NodePort: uint16(30000 + i)}},
		}
		vip := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		s.Addresses = append(s.Addresses, &snapshot.Address{Addr: vip, Holders: []snapshot.Holder{{Ref: svc.Ref, UID: svc.UID}}})
		svc.Ingress = []snapshot.Ingress{{IP: vip}}
		for j := range endpoints {
			svc.Endpoints = append(svc.Endpoints, endpoint(i*endpoints+j))
		}
		s.Services = append(s.Services, svc)
	}
	s.Sort()
	return s
}

func endpoint(i int) snapshot.Endpoint {
	at := netip.AddrFrom4([4]byte{10, 100 + byte(i%10), byte(i >> 11), byte(i >> 3)})
	return snapshot.Endpoint{Addr: netip.AddrPortFrom(at, uint16(8080+i%8)), PortName: "http", Protocol: snapshot.TCP,
		Ready: true, Serving: true, Node: fmt.Sprint("node", i%10)}
}

// changed is s with one endpoint of Service i replaced.
func changed(s *snapshot.Snapshot, i, round int) *snapshot.Snapshot {
	out := *s
	out.Services = slices.Clone(s.Services)
	svc := *s.Services[i]
	svc.Endpoints = slices.Clone(svc.Endpoints)
	svc.Endpoints[0] = endpoint(1<<20 + round)
	out.Services[i] = &svc
	return &out
}

// BenchmarkCompile compiles 10,000 Services with 10 endpoints each: all, and one
// of which an endpoint changed.
func BenchmarkCompile(b *testing.B) {
	s := many(10000, 10)
	on := []netip.Addr{netip.MustParseAddr("203.0.113.1")}
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			proxy.Compile(s, "node1", on, proxy.Options{})
		}
	})
	b.Run("change", func(b *testing.B) {
		var c proxy.Compiler
		c.Compile(s, "node1", on, proxy.Options{})
		var made []*snapshot.Snapshot
		now := s
		for i := range 64 {
			now = changed(now, i*97%10000, i)
			made = append(made, now)
		}
		b.ResetTimer()
		i := 0
		for b.Loop() {
			c.Compile(made[i%len(made)], "node1", on, proxy.Options{})
			i++
		}
	})
}
