package netlink

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// loadBalancers are n Services with a ClusterIP, a VIP and a node port each, all with
// the same number of endpoints.
func loadBalancers(n, endpoints int) *proxy.Table {
	t := services(snapshot.IPv4, 0, 0)
	for _, kind := range []proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.NodePort} {
		for i := range n {
			f := &proxy.Frontend{Key: proxy.Key{Kind: kind, Family: snapshot.IPv4, Protocol: snapshot.TCP, Port: 80}}
			switch kind {
			case proxy.ClusterIP:
				f.Addr = numbered(snapshot.IPv4, 96, i)
			case proxy.VIP:
				f.Addr = numbered(snapshot.IPv4, 128, i)
			case proxy.NodePort:
				f.Port = uint16(20000 + i)
			}
			for j := range endpoints {
				f.Cluster = append(f.Cluster, netip.AddrPortFrom(numbered(snapshot.IPv4, 160, i*endpoints+j), 8080))
			}
			t.Frontends = append(t.Frontends, f)
		}
	}
	return t
}

// lessOne is t without one endpoint of Service i of n.
func lessOne(t *proxy.Table, n, i int) *proxy.Table {
	next := *t
	next.Frontends = slices.Clone(t.Frontends)
	for kind := range 3 {
		f := *next.Frontends[kind*n+i]
		f.Cluster = f.Cluster[1:]
		next.Frontends[kind*n+i] = &f
	}
	return &next
}

// cpu is how much CPU time f takes, that of the kernel on its behalf included. The time
// on the clock depends on what else the machine does.
func cpu(f func()) time.Duration {
	used := func() time.Duration {
		var r unix.Rusage
		_ = unix.Getrusage(unix.RUSAGE_SELF, &r)
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	before := used()
	f()
	return used() - before
}

// BenchmarkOneEndpointLess times a Sync after a Service lost one endpoint, beside as
// many LoadBalancer Services as the name says: of few endpoints, where the number of
// slots changes with each, and of 20, where it does not. It fails if the time grows
// faster than the number of Services. Run it with -benchtime 20x.
func BenchmarkOneEndpointLess(b *testing.B) {
	for _, endpoints := range []int{3, 20} {
		spent := map[int]time.Duration{}
		for _, n := range []int{50, 100, 200, 400, 1000, 10000} {
			if endpoints > 3 && n > 1000 {
				continue
			}
			b.Run(fmt.Sprintf("endpoints=%d/services=%d", endpoints, n), func(b *testing.B) {
				spent[n] = oneLess(b, n, endpoints)
			})
		}
		atMostLinear(b, spent)
	}
}

// oneLess returns the CPU time of one Sync, the mean of b.N.
func oneLess(b *testing.B, n, endpoints int) time.Duration {
	s := newSpace(b, "less")
	e := s.engine(b)
	all := loadBalancers(n, endpoints)
	load := cpu(func() { sync(b, e, all) })
	var less time.Duration
	i := 0
	for b.Loop() {
		less += cpu(func() { sync(b, e, lessOne(all, n, i)) })
		b.StopTimer()
		sync(b, e, all)
		b.StartTimer()
		i = (i + 1) % n
	}
	less /= time.Duration(b.N)
	b.ReportMetric(float64(load.Microseconds())/1000, "load-cpu-ms")
	b.ReportMetric(float64(less.Microseconds())/1000, "cpu-ms/op")
	return less
}

// atMostLinear fails if the time spent grows faster than the number that is its key.
func atMostLinear(b *testing.B, spent map[int]time.Duration) {
	numbers := slices.Sorted(maps.Keys(spent))
	for _, n := range numbers {
		if few := numbers[0]; spent[n] > spent[few]*time.Duration(n)/time.Duration(few) {
			b.Errorf("with %d Services a change takes %s, with %d it takes %s", few, spent[few], n, spent[n])
		}
	}
}
