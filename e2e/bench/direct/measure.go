package direct

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/report"
	"github.com/fairlead/fairlead/e2e/demo"
)

// measured is what came of one run.
type measured struct {
	connections, failed int
	took                time.Duration // for the connections
	hidden              int           // connections where the pod saw a node instead of the client
	size                int           // that was downloaded, in bytes
	sent                time.Duration // for that
	owner               uint64        // bytes on the owner's link meanwhile, both directions
	cpu                 time.Duration // of the whole machine meanwhile
}

func (m measured) String() string {
	return fmt.Sprintf("%.0f connections/s, %d failed, %d of %d with the client hidden; %.3f bytes on the owner's link for each of %d MB, %.0f MB/s, CPU %.2f s/GB",
		m.rate(), m.failed, m.hidden, m.connections, m.share(), m.size/1e6, m.speed()/1e6, m.perGB())
}

func (m measured) rate() float64  { return float64(m.connections-m.failed) / m.took.Seconds() }
func (m measured) speed() float64 { return float64(m.size) / m.sent.Seconds() }
func (m measured) share() float64 { return float64(m.owner) / float64(m.size) }
func (m measured) perGB() float64 { return m.cpu.Seconds() / (float64(m.size) / 1e9) }

// add adds the run as a line.
func (m measured) add(to *report.Lines, name string) {
	to.Add(name, m.connections, report.Of(m.rate(), "conn/s"), report.Of(m.speed(), "B/s"), report.Of(m.share(), "owner-bytes/B"), report.Of(m.perGB(), "cpu-sec/GB"),
		report.Of(float64(m.hidden), "hidden"), report.Of(float64(m.failed), "failed"))
}

// line is what the line of a run is called, and farLine what that of one with each node in a
// subnet of its own is.
func line(way Way) string    { return "Direct/way=" + string(way) }
func farLine(way Way) string { return "Far/way=" + string(way) }

// measure opens connections, then downloads.
func (b *Bench) measure(ctx context.Context) (m measured, err error) {
	prober, err := b.Lab.StartProbe(ctx, b.client, demo.URL(b.vip, 80), "-n=0", "-c=8", "-timeout=2s")
	if err != nil {
		return m, err
	}
	began := time.Now()
	select {
	case <-ctx.Done():
	case <-time.After(b.Connections):
	}
	m.took = time.Since(began)
	r, err := prober.Stop()
	if err != nil {
		return m, err
	}
	m.connections, m.failed = r.Requests, r.Failures
	for source, n := range r.Sources {
		if b.hidden(source) {
			m.hidden += n
		}
	}
	return m, b.download(ctx, &m)
}

// download downloads as often as the Bench says, one after the other.
func (b *Bench) download(ctx context.Context, m *measured) error {
	passed, err := b.passed(ctx)
	busy, errBusy := busyTime()
	if err := errors.Join(err, errBusy); err != nil {
		return err
	}
	began := time.Now()
	for range b.Downloads {
		url := fmt.Sprintf("%sbytes?n=%d", demo.URL(b.vip, 80), b.Size)
		if _, err := b.Lab.Exec(ctx, b.client, "sh", "-c", b.Lab.Hello()+" get '"+url+"' >/dev/null"); err != nil {
			return fmt.Errorf("download: %w", err)
		}
		m.size += b.Size
	}
	m.sent = time.Since(began)
	now, err := b.passed(ctx)
	busyNow, errBusy := busyTime()
	m.owner, m.cpu = now-passed, busyNow-busy
	return errors.Join(err, errBusy)
}

// passed returns how many bytes have passed the owner's link, both directions.
func (b *Bench) passed(ctx context.Context) (uint64, error) {
	return b.Lab.LinkBytes(ctx, b.owner.Node, b.owner.Link)
}

// busyTime returns for how long all processors of this machine have worked, without what
// programs of a lower priority did in user mode.
func busyTime() (time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return busyIn(string(data))
}

// tick is the unit of /proc/stat, on every architecture that Go runs on.
const tick = 10 * time.Millisecond

// busyIn reads it out of /proc/stat: user, system, irq and softirq. What runs at a lower
// priority gets what the measurement leaves, and would fill it up. Stolen time is other virtual
// machines' work.
func busyIn(stat string) (sum time.Duration, err error) {
	first, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(first)
	if len(fields) < 8 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q", first)
	}
	for _, field := range []int{1, 3, 6, 7} {
		n, err := strconv.ParseInt(fields[field], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}
