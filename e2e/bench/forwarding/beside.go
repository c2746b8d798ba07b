package forwarding

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

// Beside is a Churn in turn by kube-proxy and by fairlead, beside another program that
// changes the nftables ruleset: a CNI, a firewall or a container runtime.
type Beside struct {
	Every []time.Duration // between two transactions of that program, a run each; 0: that program does not run
	Turns int             // of each of the two
	Churn
}

// Run measures everything, and returns a line for each change and each run.
func (b *Beside) Run(ctx context.Context) (out *report.Lines, err error) {
	out = &report.Lines{}
	contenders, stop, err := b.prepare(ctx)
	if err != nil {
		return out, err
	}
	defer stop(&err)
	if err := b.cluster.grow(ctx, 1+b.Services); err != nil {
		return out, err
	}
	for turn := range b.Turns {
		for _, every := range b.Every {
			for i := range contenders {
				c := contenders[(turn+i)%len(contenders)] // who is first changes
				if err := b.turn(ctx, c, every, out); err != nil {
					return out, fmt.Errorf("%s, a transaction every %s: %w", c.name, every, err)
				}
			}
		}
	}
	return out, nil
}

// turn is one run of one contender.
func (b *Beside) turn(ctx context.Context, c contender, every time.Duration, out *report.Lines) (err error) {
	_, process, err := b.load(ctx, c)
	if err != nil {
		return err
	}
	defer func() {
		process.stop()
		err = errors.Join(err, c.clean(context.WithoutCancel(ctx), b.world))
	}()
	w, err := b.world.node.disturb(every)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	before, err := process.cpu()
	if err != nil {
		return err
	}
	p := b.world.probe(ctx, 20*time.Millisecond, clusterIP(b.cluster.services[0]), b.cluster.nodePort(), vipPort())
	watched := c.watch(ctx, b.world)
	took, made, err := b.movesIn(ctx)
	got, health := p.stop(), watched()
	if err != nil {
		return err
	}
	after, err := process.cpu()
	if err != nil {
		return err
	}
	keys := fmt.Sprintf("every=%s/proxy=%s", every, c.name)
	slices.Sort(took)
	for _, t := range took {
		out.Add("BesideChange/"+keys, 1, report.Time(t, "sec"))
	}
	out.Add("Beside/"+keys, made, report.Time(at(took, 50), "p50-sec"), report.Time(at(took, 100), "max-sec"),
		report.Time((after-before)/time.Duration(max(made, 1)), "cpu-sec/op"), report.Of(float64(len(got.failed)), "failed"),
		report.Of(health.failures, "failed-syncs"), report.Of(health.outOfSync, "out-of-sync"), report.Time(health.stale, "stale-sec"))
	fmt.Fprintf(b.Out, "%s, a transaction every %s: change p50 %.0f ms, %d requests failed, %.0f Syncs failed\n",
		c.name, every, ms(at(took, 50)), len(got.failed), health.failures)
	return nil
}

// movesIn changes endpoints at the Churn's rate, and moves another Service's endpoint
// meanwhile. It returns how long each move took and how many changes there were.
func (b *Beside) movesIn(ctx context.Context) (took []time.Duration, made int, err error) {
	done := make(chan error, 1)
	go func() {
		var err error
		made, err = b.Churn.change(ctx)
		done <- err
	}()
	for {
		t, err := b.Bench.change(ctx)
		if err != nil {
			return took, 0, errors.Join(err, <-done)
		}
		took = append(took, t)
		select {
		case err := <-done:
			return took, made + len(took), err
		case <-time.After(movesEvery):
		}
	}
}

// movesEvery lies between two moves of the endpoint that is waited for.
const movesEvery = 100 * time.Millisecond

// health is what a contender says of its Syncs in a run.
type health struct {
	failures  float64       // Syncs that failed
	begun     bool          // it has said that it is in sync
	outOfSync float64       // looks since then, two a second, at which it said that it is not; kube-proxy never does
	stale     time.Duration // the longest since a Sync that succeeded, as seen by these looks
}

// watch looks at a contender's metrics until the function that it returns is called.
func (c contender) watch(ctx context.Context, w *world) func() health {
	ctx, cancel := context.WithCancel(ctx)
	var out health
	var done sync.WaitGroup
	done.Go(func() {
		ticker := time.NewTicker(500 * time.Millisecond)
		defer ticker.Stop()
		for {
			c.look(ctx, w, &out)
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() health {
		cancel()
		done.Wait()
		return out
	}
}

// look adds what the metrics say now. Without an answer it adds nothing.
func (c contender) look(ctx context.Context, w *world, out *health) {
	families, err := c.metrics(ctx, w)
	if err != nil {
		return
	}
	c.read(families, out)
}

// read adds what the metrics say.
func (c contender) read(families map[string]*dto.MetricFamily, out *health) {
	out.failures = 0
	for _, m := range families[c.failures].GetMetric() {
		out.failures += m.GetCounter().GetValue()
	}
	if last := lastSync(families, c.last); !last.IsZero() {
		out.stale = max(out.stale, time.Since(last))
	}
	for _, m := range families[c.inSync].GetMetric() {
		now := m.GetGauge().GetValue() == 1
		out.begun = out.begun || now
		if out.begun && !now {
			out.outOfSync++
		}
	}
}

// lastSync returns when a Sync last succeeded by the gauges called name, one for each
// family; zero if none did.
func lastSync(families map[string]*dto.MetricFamily, name string) (at time.Time) {
	var last float64
	for _, m := range families[name].GetMetric() {
		last = max(last, m.GetGauge().GetValue())
	}
	if last > 0 {
		at = time.UnixMicro(int64(last * 1e6))
	}
	return at
}

// foreign is the name of the other program's table.
const foreign = "flbench"

// disturber is a program that changes its own nftables table all the time.
type disturber struct {
	fd   int
	end  chan struct{}
	done chan error
}

// disturb starts a disturber in a namespace. It makes or removes its table every so
// often; 0 is never.
func (s space) disturb(every time.Duration) (*disturber, error) {
	d := &disturber{fd: -1, end: make(chan struct{}), done: make(chan error, 1)}
	err := s.do(func() (err error) {
		d.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("a writer of nftables: %w", err)
	}
	go func() { d.done <- d.run(every) }()
	return d, nil
}

func (d *disturber) run(every time.Duration) error {
	if every == 0 {
		<-d.end
		return nil
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for there := false; ; there = !there {
		typ := unix.NFT_MSG_NEWTABLE
		if there {
			typ = unix.NFT_MSG_DELTABLE
		}
		if err := unix.Sendto(d.fd, transaction(typ), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return fmt.Errorf("a foreign transaction: %w", err)
		}
		select {
		case <-ticker.C:
		case <-d.end:
			return nil
		}
	}
}

// stop ends the disturber and takes out its table.
func (d *disturber) stop() error {
	close(d.end)
	err := <-d.done
	// The kernel refuses the deletion of a table that is not there, which nobody reads.
	last := unix.Sendto(d.fd, transaction(unix.NFT_MSG_DELTABLE), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	return errors.Join(err, last, unix.Close(d.fd))
}

// transaction is one that makes or removes the foreign table.
func transaction(typ int) []byte {
	subsystem := [2]byte{0, unix.NFNL_SUBSYS_NFTABLES}
	name := append(binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, uint16(4+len(foreign)+1)), unix.NFTA_TABLE_NAME), foreign+"\x00"...)
	out := nfnetlink(unix.NFNL_MSG_BATCH_BEGIN, unix.AF_UNSPEC, subsystem, nil)
	out = append(out, nfnetlink(unix.NFNL_SUBSYS_NFTABLES<<8|typ, unix.AF_INET, [2]byte{}, name)...)
	return append(out, nfnetlink(unix.NFNL_MSG_BATCH_END, unix.AF_UNSPEC, subsystem, nil)...)
}

// nfnetlink is one message.
func nfnetlink(typ int, family byte, subsystem [2]byte, attributes []byte) []byte {
	const create = unix.NLM_F_REQUEST | unix.NLM_F_CREATE
	out := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+4+len(attributes)))
	out = binary.NativeEndian.AppendUint16(out, uint16(typ))
	out = binary.NativeEndian.AppendUint16(out, create)
	out = append(out, make([]byte, 8)...) // sequence and port
	out = append(out, family, 0, subsystem[0], subsystem[1])
	out = append(out, attributes...)
	return append(out, make([]byte, (4-len(out)%4)%4)...)
}
