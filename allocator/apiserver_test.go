package allocator

import (
	"net/netip"
	"strings"
	"testing"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// A pool does not give the API server's address: not to a Service that takes any, and not to
// one that asks for it. The pool says so and gives the rest.
func TestAPIServersAddress(t *testing.T) {
	api := netip.MustParseAddr("192.0.2.100")
	service := func(name, ip string) *snapshot.Service {
		return &snapshot.Service{Ref: snapshot.Ref{Namespace: "a", Name: name}, UID: name, Type: snapshot.LoadBalancer, LoadBalancerIP: ip, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}}
	}
	s := &snapshot.Snapshot{
		Pools:    []*snapshot.Pool{{Name: "lan", UID: "lan", AutoAssign: true, Ranges: []netipx.IPRange{netipx.MustParseIPRange("192.0.2.100-192.0.2.101")}}},
		Services: []*snapshot.Service{service("any", ""), service("wants", api.String())},
	}
	p := Decide(s, Options{DefaultClass: true, APIServers: []netip.Addr{api}})
	if got := p.Services[0].Addrs; len(got) != 1 || got[0] != netip.MustParseAddr("192.0.2.101") {
		t.Errorf("any address is %v", got)
	}
	if r := p.Services[1].Refusal; r == nil || !strings.Contains(r.Message, "of the API server") {
		t.Errorf("the API server's address is refused with %v", r)
	}
	if c := p.Pools[0].Conflicting; c.Reason != string(OverlapsNode) || !strings.Contains(c.Message, "192.0.2.100, which is an address of the API server") {
		t.Errorf("the pool says %v", c)
	}
}
