package netlink

import (
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// BenchmarkAdopt measures what a process costs that starts on the tables of 50,000
// Services with 5 endpoints each: to read, compare and confirm them. It needs root.
func BenchmarkAdopt(b *testing.B) {
	s, table := newSpace(b, "adopt"), services(snapshot.IPv4, 50000, 5)
	sync(b, s.engine(b), table)
	for b.Loop() {
		e := New(Options{Netns: int(s.Handle)})
		_, cpu := cpuTimes(b, func() {
			if c := sync(b, e, table); !c.Empty() {
				b.Fatalf("%+v", c)
			}
		})
		e.Close()
		b.ReportMetric(ms(cpu), "cpu-ms")
	}
}
