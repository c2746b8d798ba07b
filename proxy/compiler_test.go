package proxy

import (
	"net/netip"
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
