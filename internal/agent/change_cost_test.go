package agent

import (
	"runtime"
	"testing"
)

// What an endpoint's change allocates does not grow with the number of Services, but for
// one list of pointers to all Services and one to all Frontends. Garbage costs more
// processor time than to make it.
func TestEndpointChangeAllocatesTheSameInALargeCluster(t *testing.T) {
	const small, large, frontends = 400, 3200, 6 // a Service's: cluster IP, node port and VIP of both families
	few, many := changeCost(t, small), changeCost(t, large)
	t.Logf("with %d Services %+v, with %d %+v", small, few, large, many)
	if many.objects > few.objects*5/4+20 {
		t.Errorf("%d objects with %d Services, %d with %d", few.objects, small, many.objects, large)
	}
	if lists := uint64((large - small) * (1 + frontends) * 8); many.bytes > few.bytes*5/4+lists*5/4 {
		t.Errorf("%d bytes with %d Services, %d with %d, and %d of that are the lists", few.bytes, small, many.bytes, large, lists)
	}
}

// allocated is how much was allocated.
type allocated struct{ objects, bytes uint64 }

// changeCost returns what a change of one endpoint allocates in a cluster of so many
// Services of type LoadBalancer.
func changeCost(t *testing.T, services int) allocated {
	t.Helper()
	w := newBenchWorld(t, benchSize{services: services, nodes: 10, endpoints: 2, dual: true})
	const changes = 20
	var sum allocated
	for round := range changes {
		w.change("endpoint", 1+round)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		w.run(t, &parts{})
		w.describe()
		runtime.ReadMemStats(&after)
		sum.objects += after.Mallocs - before.Mallocs
		sum.bytes += after.TotalAlloc - before.TotalAlloc
	}
	return allocated{sum.objects / changes, sum.bytes / changes}
}
