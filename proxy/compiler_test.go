package proxy

import (
	"net/netip"
	"slices"
	"testing"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Each allocation changes the counters of a pool. No Service is looked at again for
// that, but for every change of a pool's ranges.
func TestPoolsCountersRecompileNothing(t *testing.T) {
	pool := func(generation int64, to string) *snapshot.Pool {
		from := netip.MustParseAddr("192.0.2.0")
		return &snapshot.Pool{Name: "lan", Generation: generation, Ranges: []netipx.IPRange{netipx.IPRangeFrom(from, netip.MustParseAddr(to))}}
	}
	svc := &snapshot.Service{Ref: snapshot.Ref{Namespace: "default", Name: "web"}, Type: snapshot.LoadBalancer,
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, Ports: []snapshot.Port{{Protocol: snapshot.TCP, Port: 80}},
		Ingress: []snapshot.Ingress{{IP: netip.MustParseAddr("192.0.2.200")}}}
	compiled := func(c *Compiler, p *snapshot.Pool) int {
		if c.last != nil {
			c.last.looked = 0
		}
		c.Compile(&snapshot.Snapshot{Services: []*snapshot.Service{svc}, Pools: []*snapshot.Pool{p}}, "a", nil, Options{})
		return c.last.looked
	}
	var c Compiler
	for _, step := range []struct {
		name string
		pool *snapshot.Pool
		want int
	}{
		{"at first", pool(1, "192.0.2.100"), 1},
		{"other counters", pool(2, "192.0.2.100"), 0},
		{"other ranges", pool(2, "192.0.2.255"), 1},
	} {
		if got := compiled(&c, step.pool); got != step.want {
			t.Errorf("%s: %d Services were looked at, want %d", step.name, got, step.want)
		}
	}
}

// A change of a Service's endpoints has that Service compiled, and no other looked at.
// One of its ClusterIP may concern every Service whose status names the address.
func TestEndpointChangeLooksAtOneService(t *testing.T) {
	s := &snapshot.Snapshot{}
	for i := range 100 {
		s.Services = append(s.Services, &snapshot.Service{
			Ref: snapshot.Ref{Namespace: "default", Name: string([]byte{'a' + byte(i/10), 'a' + byte(i%10)})}, Type: snapshot.LoadBalancer, Ports: []snapshot.Port{{Protocol: snapshot.TCP, Port: 80}},
			ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, byte(i)})}, Ingress: []snapshot.Ingress{{IP: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})}},
		})
	}
	var c Compiler
	c.Compile(s, "a", nil, Options{})
	for _, step := range []struct {
		name           string
		change         func(*snapshot.Service)
		looked, walked int
	}{
		{"an endpoint", func(s *snapshot.Service) {
			s.Endpoints = []snapshot.Endpoint{{Protocol: snapshot.TCP, Addr: netip.MustParseAddrPort("10.1.1.1:80"), Ready: true, Serving: true}}
		}, 1, 0},
		{"the ClusterIP", func(s *snapshot.Service) { s.ClusterIPs = []netip.Addr{netip.MustParseAddr("10.96.1.1")} }, 1, 100},
	} {
		next := *s
		next.Services = slices.Clone(s.Services)
		changed := *s.Services[42]
		step.change(&changed)
		next.Services[42] = &changed
		c.last.looked, c.last.walked = 0, 0
		c.Compile(&next, "a", nil, Options{})
		if got := *c.last; got.looked != step.looked || got.walked != step.walked {
			t.Errorf("%s: %d Services were compiled and %d looked at, want %d and %d", step.name, got.looked, got.walked, step.looked, step.walked)
		}
		s = &next
	}
}
