package allocator

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// full returns n Services and a /16 whose addresses they and a crowd of others hold
// all but one address.
func full(n int) *snapshot.Snapshot {
	s := &snapshot.Snapshot{Pools: []*snapshot.Pool{{Name: "lan", AutoAssign: true, Priority: snapshot.NoPriority,
		Ranges: []netipx.IPRange{netipx.RangeOfPrefix(netip.MustParsePrefix("10.0.0.0/16"))}}}}
	a := netip.MustParseAddr("10.0.0.0")
	for i := range n {
		v := exampleService(i)
		s.Services = append(s.Services, v)
		s.Addresses = append(s.Addresses, &snapshot.Address{Addr: a, Pool: "lan", Holders: []snapshot.Holder{
			{Ref: v.Ref, UID: v.UID, Ports: []snapshot.HeldPort{{Protocol: snapshot.TCP, Port: 80}}}}})
		v.Ingress = []snapshot.Ingress{{IP: a}}
		a = a.Next()
	}
	s.Sort()
	return s
}

func exampleService(i int) *snapshot.Service {
	return &snapshot.Service{Ref: snapshot.Ref{Namespace: fmt.Sprintf("ns-%d", i%50), Name: fmt.Sprintf("web-%d", i)},
		UID: fmt.Sprintf("3e6f2a4c-0000-4000-8000-%012d", i), Created: time.Unix(int64(i/7), 0),
		Labels: map[string]string{"app": "web"}, Type: snapshot.LoadBalancer, Families: []snapshot.Family{snapshot.IPv4},
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, Ports: []snapshot.Port{{Protocol: snapshot.TCP, Port: 80}}}
}

var ours = Options{Class: "fairlead.io/lb", DefaultClass: true}

// tenThousand is 10,000 Services on a full /16: 9,000 hold an address, the rest
// of the pool is held by nobody that is left but one, and 1,000 wait.
func tenThousand() *snapshot.Snapshot {
	s := full(9000)
	for i := 9000; i < 10000; i++ {
		s.Services = append(s.Services, exampleService(i))
	}
	// The rest of the pool is on its way out, so it is taken, and one is free.
	a := netip.MustParseAddr("10.0.0.0")
	for i := range 1<<16 - 1 {
		if i >= 9000 {
			s.Addresses = append(s.Addresses, &snapshot.Address{Addr: a, Pool: "lan", Deleting: true})
		}
		a = a.Next()
	}
	s.Sort()
	return s
}

func BenchmarkDecide10k(b *testing.B) {
	for _, c := range []struct {
		name string
		snap *snapshot.Snapshot
	}{{"held", full(10000)}, {"full16", tenThousand()}, {"new", unassigned(10000)}, {"chain", chain(10000)}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Decide(c.snap, ours)
			}
		})
	}
}

// unassigned returns n Services that all wait.
func unassigned(n int) *snapshot.Snapshot {
	s := full(0)
	for i := range n {
		s.Services = append(s.Services, exampleService(i))
	}
	s.Sort()
	return s
}

// chain returns n Services where each asks for what the next one holds: the
// last must move first.
func chain(n int) *snapshot.Snapshot {
	s := full(n)
	for _, a := range s.Addresses {
		s.Service(a.Holders[0].Ref).Annotations = map[string]string{AnnotationAddresses: a.Addr.Next().String()}
	}
	return s
}

// BenchmarkAssignOne takes and gives the one free address of a /16, and one of
// a /64 with a hole at every second address.
func BenchmarkAssignOne(b *testing.B) {
	b.Run("full16", func(b *testing.B) {
		d := almostFull()
		svc := &d.services[0]
		b.ReportAllocs()
		for b.Loop() {
			assignOne(b, d, svc)
		}
	})
	b.Run("holey64", func(b *testing.B) {
		set := newFreeSet([]span{spanOf("2001:db8::-2001:db8::ffff:ffff:ffff:ffff")}, false)
		base := numOf(netip.MustParseAddr("2001:db8::"))
		for i := range uint64(1 << 16) {
			set.remove(base.plus(num{0, 2 * i}))
		}
		n := base.plus(num{0, 1<<16 + 1})
		b.ReportAllocs()
		for b.Loop() {
			set.remove(n)
			set.putBack(n)
		}
	})
}

// almostFull is a decision in which all of a /16 but one address is held, and
// one Service waits.
func almostFull() *decision {
	s := full(1<<16 - 1)
	s.Services = append([]*snapshot.Service{{Ref: snapshot.Ref{Namespace: "a", Name: "a"}, UID: "a", Type: snapshot.LoadBalancer,
		Families: []snapshot.Family{snapshot.IPv4}, ClusterIPs: s.Services[0].ClusterIPs}}, s.Services...)
	d := newDecision(s, ours)
	d.keepHolders()
	return d
}

func assignOne(t testing.TB, d *decision, svc *service) {
	addrs, why := d.choose(svc)
	if why != nil {
		t.Fatal(why)
	}
	d.takeAll(svc, addrs)
	d.release(svc, svc.held[0])
}

// TestBenchAllocator prints the numbers of the package on one line. It runs
// with BENCH_ALLOCATOR=1 and fails if a decision takes more of a processor than
// it may; how long it waits for one is the machine's matter.
func TestBenchAllocator(t *testing.T) {
	if os.Getenv("BENCH_ALLOCATOR") == "" {
		t.Skip("set BENCH_ALLOCATOR=1")
	}
	runtime.LockOSThread()
	s := tenThousand()
	var times, costs []time.Duration
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const runs = 21
	for range runs {
		start, used := time.Now(), threadTime(t)
		Decide(s, ours)
		times, costs = append(times, time.Since(start)), append(costs, threadTime(t)-used)
	}
	runtime.ReadMemStats(&after)
	slices.Sort(times)
	slices.Sort(costs)
	decide, cost := times[runs/2], costs[runs/2]

	d := almostFull()
	const n = 100000
	start := time.Now()
	for range n {
		assignOne(t, d, &d.services[0])
	}
	one := time.Since(start) / n
	fmt.Printf("bench-allocator: decide_10k_ms=%.1f decide_10k_cpu_ms=%.1f assign_one_us=%.2f allocs=%d\n",
		decide.Seconds()*1e3, cost.Seconds()*1e3, one.Seconds()*1e6, (after.Mallocs-before.Mallocs)/runs)
	if cost > 50*time.Millisecond {
		t.Errorf("a decision over 10,000 Services cost %s, more than 50 ms", cost)
	}
}

// threadTime is how long the calling thread has run.
func threadTime(t *testing.T) time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
