package forwarding

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

// Large measures one node of a large cluster beside another program that changes the
// nftables ruleset. Every Crowd has an API server of its own.
type Large struct {
	Crowds []Crowd
	Every  time.Duration // between two transactions of the other program
	Starts int           // how often fairlead starts again on the tables that it left
	Bench
}

// Crowd is the Services of a large cluster.
type Crowd struct {
	Services  int
	Balanced  bool          // each has a node port and a VIP, and both families; otherwise each has a ClusterIP alone
	KubeProxy time.Duration // how long kube-proxy may take to serve them; 0: it is not measured
}

// String names the Crowd in lines and reports.
func (c Crowd) String() string {
	if c.Balanced {
		return fmt.Sprintf("%d-LoadBalancer", c.Services)
	}
	return fmt.Sprintf("%d-ClusterIP", c.Services)
}

// memoryLimit is the agent's memory limit by the chart, in bytes.
const memoryLimit = 512 << 20

// Run measures everything. The lines that it returns with an error are those until then.
func (l *Large) Run(ctx context.Context) (*report.Lines, error) {
	out := &report.Lines{}
	for _, c := range l.Crowds {
		if err := l.crowd(ctx, c, out); err != nil {
			return out, fmt.Errorf("%s: %w", c, err)
		}
	}
	return out, nil
}

func (l *Large) crowd(ctx context.Context, c Crowd, out *report.Lines) (err error) {
	contenders, stop, err := l.prepare(ctx)
	if err != nil {
		return err
	}
	defer stop(&err)
	began := time.Now()
	if err := l.world.widen(ctx); err != nil {
		return err
	}
	if err := l.cluster.crowd(ctx, l.api, c); err != nil {
		return err
	}
	fmt.Fprintf(l.Out, "%s: there after %.0f s\n", c, time.Since(began).Seconds())
	if c.KubeProxy > 0 {
		if err := l.theirs(ctx, c, contenders[0], out); err != nil {
			return fmt.Errorf("kube-proxy: %w", err)
		}
	}
	return l.ours(ctx, c, contenders[1], out)
}

// theirs measures kube-proxy for as long as it may take. Not to finish is a result.
func (l *Large) theirs(ctx context.Context, c Crowd, k contender, out *report.Lines) (err error) {
	b := l.Bench
	b.patience = c.KubeProxy
	keys := c.keys(k)
	loaded, p, err := b.load(ctx, k)
	if late := (*lateError)(nil); errors.As(err, &late) {
		fmt.Fprintf(l.Out, "%s: kube-proxy did not finish in %s\n", c, c.KubeProxy)
		out.Add("LargeLoad/"+keys, 1, report.Time(c.KubeProxy, "gave-up-sec"))
		return k.clean(ctx, l.world)
	}
	if err != nil {
		return err
	}
	defer func() {
		p.stop()
		err = errors.Join(err, k.clean(context.WithoutCancel(ctx), l.world))
	}()
	addLoad(out, keys, loaded)
	fmt.Fprintf(l.Out, "%s: kube-proxy loaded in %.1f s\n", c, loaded.wall.Seconds())
	return l.settled(ctx, &b, c, k, p, out)
}

// ours measures fairlead: a start on an empty node, changes, and starts on what is
// there. The other program runs while it starts.
func (l *Large) ours(ctx context.Context, c Crowd, f contender, out *report.Lines) (err error) {
	f.env = []string{fmt.Sprintf("MEMORY_LIMIT=%d", memoryLimit)} // as the chart gives it
	defer func() { err = errors.Join(err, f.clean(context.WithoutCancel(ctx), l.world)) }()
	w, err := l.world.node.disturb(l.Every)
	if err != nil {
		return err
	}
	loaded, p, err := l.load(ctx, f)
	if err := errors.Join(err, w.stop()); err != nil {
		return err
	}
	addLoad(out, c.keys(f), loaded)
	fmt.Fprintf(l.Out, "%s: fairlead loaded in %.1f s\n", c, loaded.wall.Seconds())
	err = l.settled(ctx, &l.Bench, c, f, p, out)
	p.stop()
	for range l.Starts {
		if err == nil {
			err = l.again(ctx, c, f, out)
		}
	}
	return err
}

// settled measures a contender that has served everything for a while: its memory,
// and changes without the other program and beside it.
func (l *Large) settled(ctx context.Context, b *Bench, c Crowd, k contender, p *process, out *report.Lines) error {
	if err := p.rest(ctx); err != nil {
		return err
	}
	if err := p.addMemory(out, c.keys(k)); err != nil {
		return err
	}
	for _, every := range []time.Duration{0, l.Every} {
		err := l.changesBeside(ctx, b, c, k, p, every, out)
		if late := (*lateError)(nil); k.name == "kube-proxy" && errors.As(err, &late) {
			fmt.Fprintf(l.Out, "%s: kube-proxy did not finish a change in %s, other program every %s\n", c, patience, every)
			out.Add(fmt.Sprintf("LargeChange/%s/every=%s", c.keys(k), every), 1, report.Time(patience, "gave-up-sec"))
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// changesIn is how many changes share one measurement of the processor time: some of what
// follows from a change comes seconds later, and for several changes at once.
const changesIn = 10

// Before each block of changes the processor time without a change is measured for idleFor,
// once what earlier changes left to do is done: leftOver is longer than an agent waits to
// look for their connections.
const (
	idleFor  = 12 * time.Second
	leftOver = 6 * time.Second
)

// changesBeside measures changes while the other program runs at one pace. What the
// process uses without a change, by the median of as many looks, is not a cost of them:
// after a start a process has other things to do than later, and some come once a minute.
func (l *Large) changesBeside(ctx context.Context, b *Bench, c Crowd, k contender, p *process, every time.Duration, out *report.Lines) (err error) {
	w, err := l.world.node.disturb(every)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	var before, after health
	k.look(ctx, l.world, &before)
	blocks, idle, err := l.blocks(ctx, b, p)
	if err != nil {
		return err
	}
	k.look(ctx, l.world, &after)
	keys := fmt.Sprintf("%s/every=%s", c.keys(k), every)
	out.Add("LargeIdle/"+keys, len(blocks), report.Of(idle, "idle-cpu-sec"))
	var all []time.Duration
	for _, some := range blocks {
		all = append(all, some.took...)
		own := some.cpu.Seconds() - idle*(pauses+mean(some.took)).Seconds()
		out.Add("LargeChange/"+keys, len(some.took), report.Time(at(some.took, 50), "sec"), report.Of(max(own, 0), "cpu-sec/op"))
	}
	slices.Sort(all)
	out.Add("LargeChange/"+keys, len(all), report.Time(at(all, 99), "p99-sec"), report.Of(after.failures-before.failures, "failed-syncs"))
	fmt.Fprintf(l.Out, "%s: %s: %d changes, other program every %s: p50 %.1f ms, p99 %.1f ms\n", c, k.name, len(all), every, ms(at(all, 50)), ms(at(all, 99)))
	return nil
}

// blocks makes the changes, of a slow contender two minutes' worth. idle is the processor
// time of a second without a change.
func (l *Large) blocks(ctx context.Context, b *Bench, p *process) (out []changes, idle float64, err error) {
	var looks []float64
	made, spent := 0, time.Duration(0)
	for made < l.Changes && (made == 0 || spent < 2*time.Minute) {
		pause(ctx, leftOver)
		look, err := p.load(ctx, idleFor)
		if err != nil {
			return out, 0, err
		}
		began := time.Now()
		some, err := b.changes(ctx, p, min(changesIn, l.Changes))
		if err != nil {
			return out, 0, err
		}
		looks, out = append(looks, look), append(out, some)
		made, spent = made+len(some.took), spent+time.Since(began)
	}
	slices.Sort(looks)
	return out, at(looks, 50), nil
}

func mean(all []time.Duration) (sum time.Duration) {
	for _, one := range all {
		sum += one
	}
	return sum / time.Duration(max(len(all), 1))
}

// keys are those of a contender's lines.
func (c Crowd) keys(k contender) string { return fmt.Sprintf("services=%s/proxy=%s", c, k.name) }

func addLoad(out *report.Lines, keys string, l load) {
	out.Add("LargeLoad/"+keys, 1, report.Time(l.program, "program-sec"), report.Time(l.wall, "start-sec"), report.Time(l.cpu, "cpu-sec"))
}

// again starts fairlead on the tables that it left, beside the other program, and
// measures the processor time until it has compared them and made them true.
func (l *Large) again(ctx context.Context, c Crowd, f contender, out *report.Lines) error {
	w, err := l.world.node.disturb(l.Every)
	if err != nil {
		return err
	}
	p, err := f.run(l.world, l.logs)
	if err != nil {
		return errors.Join(err, w.stop())
	}
	defer p.stop()
	sampled := p.sampleCPU(ctx)
	var listed, synced time.Time
	var health health
	err = until(ctx, 50*time.Millisecond, patience, "the first Sync", func() error {
		if err := p.ended(); err != nil {
			return fatal{err}
		}
		families, err := f.metrics(ctx, l.world)
		if err != nil {
			return err
		}
		if listed, err = f.listed(l.logs, p.began); err != nil {
			return err
		}
		f.read(families, &health)
		if synced = lastSync(families, f.last); synced.Before(listed) {
			return errors.New("it has not programmed what it listed yet")
		}
		return nil
	})
	samples := sampled()
	if err := errors.Join(err, w.stop(), l.serves()); err != nil {
		return err
	}
	informers, all := samples.until(listed), samples.until(synced)
	out.Add("Restart/"+c.keys(f), 1, report.Time(informers, "informers-cpu-sec"), report.Time(all-informers, "sync-cpu-sec"),
		report.Time(synced.Sub(listed), "sync-sec"), report.Of(health.failures, "failed-syncs"))
	fmt.Fprintf(l.Out, "%s: restart: informers %.2f s of CPU, then %.2f s until the first Sync (%.2f s)\n",
		c, informers.Seconds(), (all - informers).Seconds(), synced.Sub(listed).Seconds())
	if err := p.rest(ctx); err != nil {
		return err
	}
	return p.addMemory(out, "start=again/"+c.keys(f))
}

// listed returns when the process that began then logged that it knows the cluster.
func (c contender) listed(logs string, began time.Time) (time.Time, error) {
	data, err := os.ReadFile(filepath.Join(logs, c.name+".log"))
	if err != nil {
		return time.Time{}, err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		text, found := strings.CutPrefix(lines.Text(), "time=")
		if !found || !strings.Contains(text, `msg="the cluster is listed"`) {
			continue
		}
		stamp, _, _ := strings.Cut(text, " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil {
			return at, err
		}
		_, read, _ := strings.Cut(text, " read=")
		took, err := time.ParseDuration(read)
		if err != nil {
			return at, err
		}
		if at.After(began) {
			return at.Add(-took), nil
		}
	}
	return time.Time{}, errors.Join(lines.Err(), errors.New("the log does not say when the cluster was listed"))
}
