package ebpf

import (
	"fmt"
	"math"
	"net/netip"
	"testing"

	bpf "github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// BenchmarkPrograms tells how long the programs run for a socket that is connected,
// asks and is closed, as the kernel measures it: with what the measuring costs, which
// was 0.11 to 0.13 µs here for a program that does nothing.
func BenchmarkPrograms(b *testing.B) {
	l := newLab(b)
	e := l.engine(b)
	table := &proxy.Table{}
	for i := range 10000 {
		at := netip.AddrFrom4([4]byte{198, 18, 96 + byte(i>>8), byte(i)}).String()
		table.Frontends = append(table.Frontends, front(at, snapshot.TCP, 80, podA4, podB4), front(at, snapshot.UDP, 53, podA4, podB4))
	}
	sync(b, e, table)
	e.config.Connected, e.config.Until = 1, math.MaxUint64 // nothing changes any more
	if err := e.configure(); err != nil {
		b.Fatal(err)
	}
	c := l.program(b, "client")
	counting, err := bpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		b.Fatal(err)
	}
	defer counting.Close()
	for _, load := range []struct{ network, to string }{{"tcp", "198.18.100.7:80"}, {"udp", "198.18.100.7:53"}} {
		b.Run(load.network, func(b *testing.B) {
			programs := map[string]*bpf.Program{"connect": e.objects.Connect4, "release": e.objects.SockRelease}
			before := map[string]*bpf.ProgramStats{}
			for name, p := range programs {
				before[name] = stats(b, p)
			}
			if answer := c.do(b, "flood %s %s %d", load.network, load.to, b.N); fails(answer) {
				b.Fatal(answer)
			}
			for name, p := range programs {
				s := stats(b, p)
				if runs := s.RunCount - before[name].RunCount; runs > 0 {
					b.ReportMetric(float64((s.Runtime-before[name].Runtime).Nanoseconds())/float64(runs), fmt.Sprintf("%s-ns", name))
				}
			}
		})
	}
}

func stats(b *testing.B, p *bpf.Program) *bpf.ProgramStats {
	b.Helper()
	s, err := p.Stats()
	if err != nil {
		b.Fatal(err)
	}
	return s
}
