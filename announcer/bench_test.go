package announcer_test

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// BenchmarkDecider times an election with a memory: nothing changed, one
// Service changed, one node lost and back.
func BenchmarkDecider(b *testing.B) {
	for _, size := range []struct{ addresses, nodes int }{{10000, 10}, {2000, 500}} {
		in := large(size.addresses, size.nodes)
		var d announcer.Decider
		d.Decide(in)
		name := fmt.Sprintf("addresses=%d/nodes=%d", size.addresses, size.nodes)
		b.Run(name+"/none", func(b *testing.B) {
			timed(b, func() {
				d.Decide(in)
			})
		})
		b.Run(name+"/endpoint", func(b *testing.B) {
			timed(b, func() {
				s, svc := *in.Snapshot, *in.Snapshot.Services[7]
				s.Services = append([]*snapshot.Service(nil), s.Services...)
				s.Services[7] = &svc
				in.Snapshot = &s
				d.Decide(in)
			})
		})
		b.Run(name+"/node", func(b *testing.B) {
			timed(b, func() {
				in.Alive["node1"] = !in.Alive["node1"]
				d.Decide(in)
			})
		})
	}
}

// cpu is what this process has spent. The machine may be busy with other things.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// timed runs step b.N times and reports the CPU time of one.
func timed(b *testing.B, step func()) {
	began := cpu()
	for b.Loop() {
		step()
	}
	b.ReportMetric(float64((cpu()-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// large is a cluster in which every Service holds one address.
func large(addresses, nodes int) announcer.Input {
	in := announcer.Input{Snapshot: &snapshot.Snapshot{}, Node: "node0", Alive: map[string]bool{}, Ready: map[netip.Addr]bool{}, Others: map[string]snapshot.Electable{}}
	links := []snapshot.Link{{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("198.18.0.1/15")}}}
	for i := range nodes {
		name := fmt.Sprint("node", i)
		in.Snapshot.Nodes = append(in.Snapshot.Nodes, &snapshot.Node{Name: name, Ready: true})
		in.Alive[name], in.Others[name] = true, snapshot.Electable{Node: name, InSync: true, Links: links}
	}
	in.Self = in.Others["node0"]
	for i := range addresses {
		svc := &snapshot.Service{Ref: snapshot.Ref{Namespace: "default", Name: fmt.Sprintf("s%05d", i)}, UID: "u", Type: snapshot.LoadBalancer}
		svc.Endpoints = []snapshot.Endpoint{{Addr: netip.MustParseAddrPort("10.1.1.1:80"), Ready: true, Node: "node1"}}
		a := &snapshot.Address{Addr: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), Holders: []snapshot.Holder{{Ref: svc.Ref, UID: "u"}}}
		in.Snapshot.Services, in.Snapshot.Addresses = append(in.Snapshot.Services, svc), append(in.Snapshot.Addresses, a)
		in.Ready[a.Addr] = true
	}
	in.Snapshot.Sort()
	return in
}
