package nodeport_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport"
)

// indexOf is an Index of node that has seen s alone.
func indexOf(s *snapshot.Snapshot, node string) *nodeport.Index {
	x := nodeport.NewIndex(node)
	x.Follow(s)
	return x
}

// Whatever Snapshots follow each other, an Index knows what one knows that sees the last
// one alone.
func TestIndexAgainstAWalk(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	followed, last := nodeport.NewIndex("a"), &snapshot.Snapshot{}
	addrs, sockets := each("198.51.100.1 2001:db8::1", netip.MustParseAddr), each("both/[::]:30080 tcp/0.0.0.0:30081", socket)
	found := 0
	for range 300 {
		next := &snapshot.Snapshot{Services: slices.Clone(last.Services)}
		for range r.IntN(3) {
			svc := randomService(r)
			at, held := slices.BinarySearchFunc(next.Services, svc.Ref, func(s *snapshot.Service, ref snapshot.Ref) int { return s.Ref.Compare(ref) })
			if held {
				next.Services = slices.Delete(next.Services, at, at+1)
			}
			if r.IntN(4) > 0 {
				next.Services = slices.Insert(next.Services, at, svc)
			}
		}
		followed.Follow(next)
		fresh := indexOf(next, "a")
		checks, occupied := fresh.Checks(), fresh.Occupied(addrs, sockets)
		found += len(checks) + len(occupied)
		if got := followed.Checks(); !slices.Equal(got, checks) {
			t.Fatalf("got %v, want %v", got, checks)
		}
		if got := followed.Occupied(addrs, sockets); !reflect.DeepEqual(got, occupied) {
			t.Fatalf("got %v, want %v", got, occupied)
		}
		last = next
	}
	if found == 0 {
		t.Error("no Snapshot had a check or a port that is taken")
	}
}

func randomService(r *rand.Rand) *snapshot.Service {
	svc := local(func(s *snapshot.Service) {
		s.Name = fmt.Sprint("web-", r.IntN(9))
		s.Type = []snapshot.ServiceType{snapshot.ClusterIP, snapshot.NodePort, snapshot.LoadBalancer, snapshot.LoadBalancer}[r.IntN(4)]
		s.Ports = []snapshot.Port{{Protocol: snapshot.TCP, Port: 80, NodePort: uint16(30080 + r.IntN(3))}}
		s.Endpoints = s.Endpoints[:r.IntN(len(s.Endpoints))]
		s.Headless = r.IntN(5) == 0
		if r.IntN(3) == 0 {
			s.HealthCheckNodePort = 0
		}
		s.ClusterIPs = s.ClusterIPs[:1+r.IntN(2)]
	}).Services[0]
	return svc
}
