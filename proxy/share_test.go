package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// crowded makes a LoadBalancer Service with an address and as many ports, endpoints of
// each port and source ranges. The endpoints are on node-0 to node-9.
func crowded(name string, id byte, ports, endpoints, ranges int) (*snapshot.Service, *snapshot.Address) {
	svc := &snapshot.Service{
		Ref: snapshot.Ref{Namespace: "default", Name: name}, UID: name, Type: snapshot.LoadBalancer,
		ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, id})},
	}
	for p := range ports {
		port := snapshot.Port{Name: fmt.Sprint(p), Protocol: snapshot.TCP, Port: uint16(1 + p)}
		svc.Ports = append(svc.Ports, port)
		for e := range endpoints {
			addr := netip.AddrFrom4([4]byte{10, 244, byte(e >> 8), byte(e)})
			svc.Endpoints = append(svc.Endpoints, snapshot.Endpoint{
				Addr: netip.AddrPortFrom(addr, 8080), Protocol: snapshot.TCP, PortName: port.Name,
				Node: fmt.Sprintf("node-%d", e%10), Ready: true, Serving: true,
			})
		}
	}
	for r := range ranges {
		svc.SourceRanges = append(svc.SourceRanges, fmt.Sprintf("11.%d.%d.0/25", r>>8, r&255))
	}
	vip := netip.AddrFrom4([4]byte{192, 0, 2, id})
	return svc, &snapshot.Address{Addr: vip, Holders: []snapshot.Holder{{Ref: svc.Ref, UID: name}}}
}

func of(svcs ...any) *snapshot.Snapshot {
	s := &snapshot.Snapshot{}
	for _, x := range svcs {
		switch x := x.(type) {
		case *snapshot.Service:
			s.Services = append(s.Services, x)
		case *snapshot.Address:
			s.Addresses = append(s.Addresses, x)
		}
	}
	return s
}

// What a Service costs a node is bounded, and it is told what is left out. Another
// Service has all of its own.
func TestShare(t *testing.T) {
	for _, c := range []struct {
		what                     string
		ports, endpoints, ranges int
		says                     string
	}{
		{"small", 3, 10, 10, ""},
		{"many endpoints", 1, 3000, 0, "some endpoints of port 1 are left out"},
		{"many ports", 3000, 2, 0, "its ports after the first 1365"},
		{"both", 100, 500, 0, "some endpoints of port 1, some endpoints of port 2, some endpoints of port 3 and others are left out"},
		{"many ranges", 1, 1, 20000, "its source ranges after the first 16384"},
	} {
		t.Run(c.what, func(t *testing.T) {
			svc, addr := crowded("large", 1, c.ports, c.endpoints, c.ranges)
			neighbour, itsAddr := crowded("neighbour", 2, 2, 3, 2)
			compiler := &Compiler{}
			table := compiler.Compile(of(svc, neighbour, addr, itsAddr), "node-1", nil, Options{})
			var alone Compiler
			for _, f := range alone.Compile(of(neighbour, itsAddr), "node-1", nil, Options{}).Frontends {
				if got := table.Frontend(f.Key); got == nil || got.String() != f.String() {
					t.Errorf("the neighbour has %v, alone %v", got, f)
				}
			}
			fronts, targets, ranges := 0, 0, 0
			for _, f := range table.Frontends {
				if f.Service != svc.Ref {
					continue
				}
				fronts++
				targets += len(f.Cluster)
				ranges += len(f.Sources)
				if len(f.Cluster) == 0 || c.ranges > 0 && f.Kind == VIP && len(f.Sources) == 0 {
					t.Errorf("nothing is left of %s", f.Key)
				}
			}
			if fronts > shareFrontends || targets > shareTargets || ranges > shareSources {
				t.Errorf("%d Frontends, %d endpoints, %d ranges", fronts, targets, ranges)
			}
			said := ""
			for _, p := range compiler.Problems() {
				if p.Service != svc.Ref || p.Reason != ShareExceeded {
					t.Errorf("%+v", p)
				}
				said = p.Message
			}
			if (said == "") != (c.says == "") || !strings.Contains(said, c.says) {
				t.Errorf("the Service is told %q, want %q", said, c.says)
			}
			compiler.Compile(of(neighbour, itsAddr), "node-1", nil, Options{})
			if p := compiler.Problems(); len(p) > 0 {
				t.Errorf("without the Service: %v", p)
			}
		})
	}
}

// A Service that has no endpoints because of others of its namespace is told so.
func TestNoRoom(t *testing.T) {
	svc, addr := crowded("large", 1, 2, 0, 0)
	svc.LeftOut = snapshot.NoRoom
	var compiler Compiler
	compiler.Compile(of(svc, addr), "node-1", nil, Options{})
	got := compiler.Problems()
	if len(got) != 1 || got[0].Reason != ShareExceeded || !strings.HasPrefix(got[0].Message, "the Services of this namespace have more endpoints than a node has room for") {
		t.Errorf("%v", got)
	}
}

// The nodes leave out different endpoints, so that each is used by some. One that comes
// or goes changes one of a node's.
func TestShareSpreads(t *testing.T) {
	uses := map[netip.AddrPort]int{}
	cluster := func(node string, endpoints int) []netip.AddrPort {
		svc, addr := crowded("large", 1, 1, endpoints, 0)
		return Compile(of(svc, addr), node, nil, Options{}).Frontends[0].Cluster
	}
	const nodes = 20
	for n := range nodes {
		node := fmt.Sprintf("node-%d", n)
		eps := cluster(node, 3000)
		for _, ep := range eps {
			uses[ep]++
		}
		fewer := cluster(node, 2999)
		gone := slices.DeleteFunc(slices.Clone(eps), func(ep netip.AddrPort) bool { return slices.Contains(fewer, ep) })
		if len(gone) > 1 {
			t.Errorf("%s: one endpoint less takes %d out", node, len(gone))
		}
	}
	if len(uses) < 2990 {
		t.Errorf("%d nodes use %d of 3000 endpoints", nodes, len(uses))
	}
	for ep, n := range uses {
		if n > nodes*2/3+3 {
			t.Errorf("%d of %d nodes use %s", n, nodes, ep)
		}
	}
}
