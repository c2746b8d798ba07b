package program

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// BenchmarkProgram measures what the program costs a packet: the median of single runs,
// and in a loop, both less what an empty program costs. Use -benchtime=200000x.
func BenchmarkProgram(b *testing.B) {
	l := newLab(b, Options{}, "a", "b")
	l.needOracle(b)
	a, f := l.node("a"), families[0]
	for i := range a.state.Nodes {
		a.state.Nodes[i].Link = 1 // what the kernel runs a program for, if nobody says
	}
	there := netip.AddrPortFrom(f.other, 80)
	a.state.Frontends = []Frontend{
		{VIP: f.vip, Proto: tcp, Slots: l.slots("b a"), HasEndpoints: true},
		{VIP: there, Proto: tcp, Slots: l.slots("a b"), HasEndpoints: true},
	}
	a.sync(b)
	forward, accept := f.packet(tcp, ack), f.packet(tcp, ack)
	accept.to = there
	many := make([]packet, 1000)
	for i := range many {
		many[i] = accept
		many[i].from = netip.AddrPortFrom(f.client.Addr(), uint16(10000+i))
	}
	syns := f.packet(tcp, syn)
	syns.to = there
	other := f.packet(tcp, ack)
	other.to = netip.AddrPortFrom(f.other, 443)
	a.rememberAll(b, append(many, accept))
	empty := emptyProgram(b)
	for _, c := range []struct {
		name    string
		packets []packet
		hot     int // runs of a loop that are alike: a TTL falls with each
	}{
		{"not directed", []packet{other}, 1000},
		{"forward", []packet{forward}, 16},
		{"accept SYN", []packet{syns}, 1000},
		{"accept", []packet{accept}, 1000},
		{"accept of 1000", many, 1},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportMetric(a.cost(b, a.p.prog, c.packets, 1)-a.cost(b, empty, c.packets, 1), "ns/packet")
			if c.hot > 1 {
				b.ReportMetric(a.cost(b, a.p.prog, c.packets, c.hot)-a.cost(b, empty, c.packets, c.hot), "ns/hot")
			}
		})
	}
}

// cost is what b.N runs take, each of so many packets at once: the median, or with
// FAIRLEAD_BENCH_LEAST=1 the tenth part from below, for a machine that does other work.
func (n *node) cost(b *testing.B, prog *ebpf.Program, packets []packet, at int) float64 {
	frames := make([][]byte, len(packets))
	for i, p := range packets {
		frames[i] = p.bytes(outsider, MAC{}) // the MAC of lo
	}
	took := make([]time.Duration, max(b.N/at, 100))
	n.space.Do(b, func() error {
		for i := range took {
			_, d, err := prog.Benchmark(frames[i%len(frames)], at, nil)
			if err != nil {
				return err
			}
			took[i] = d
		}
		return nil
	})
	slices.Sort(took)
	if os.Getenv("FAIRLEAD_BENCH_LEAST") == "1" {
		return float64(took[len(took)/10])
	}
	return float64(took[len(took)/2])
}

// rememberAll is remember for many connections at once.
func (n *node) rememberAll(b *testing.B, packets []packet) {
	var lines strings.Builder
	for _, p := range packets {
		fmt.Fprintf(&lines, "-I -p tcp -s %s -d %s -t 3000 -u SEEN_REPLY --sport %d --dport %d --state ESTABLISHED\n",
			p.from.Addr(), p.to.Addr(), p.from.Port(), p.to.Port())
	}
	n.space.Pipe(b, lines.String(), "conntrack", "-R", "-")
}

func emptyProgram(b *testing.B) *ebpf.Program {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { prog.Close() })
	return prog
}
