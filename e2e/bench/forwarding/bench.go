// Package forwarding measures how kube-proxy and fairlead forward the Services of
// a cluster, one after the other on the same node: a network namespace that the
// real programs run in, beside one of a client and one of all pods. The API
// server is a real one without nodes; the endpoints are written by hand.
//
// The loads are the package's own. The machine that runs this is shared and
// sometimes stalls for some milliseconds, which is more than what the ways differ
// by. So an EastWest counts laps of 5 ms and takes their median. The load tools of
// Debian cannot: iperf3 reports every 100 ms at most and makes no requests, wrk
// takes whole seconds and speaks HTTP over TCP only, and netperf is not in its main
// archive. None counts the processor time of both sides for one event either. Client
// and servers are threads of one process on one core for that.
package forwarding

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairlead/fairlead/e2e/apiserver"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/internal/kube"
)

// Bench is what to measure.
type Bench struct {
	Sizes   []int // numbers of Services, growing
	Loads   int   // how often each is started on an empty node
	Changes int   // of an endpoint
	Runs    int   // of connections, alternating
	Length  time.Duration
	Out     io.Writer // what it is doing

	patience time.Duration // how long a contender may take to serve all Services; 0: patience
	logs     string
	world    *world
	cluster  *cluster
	api      *apiserver.Server
}

// Result is what came of one number of Services.
type Result struct {
	Services            int
	KubeProxy, Fairlead Measured
}

// Measured is what came of one contender.
type Measured struct {
	loads   []load
	changes changes
	memory  int64
	rates
}

// rates are runs of connections by where they went; those of one number
// followed each other.
type rates struct{ nodePort, vip, pod []rate }

// Run measures everything. Logs are below a folder that is kept when it fails.
func (b *Bench) Run(ctx context.Context) (results []Result, err error) {
	contenders, stop, err := b.prepare(ctx)
	if err != nil {
		return nil, err
	}
	defer stop(&err)
	for _, n := range b.Sizes {
		r, err := b.measure(ctx, n, contenders)
		if err != nil {
			return results, fmt.Errorf("%d Services: %w", n, err)
		}
		results = append(results, r)
	}
	return results, nil
}

// prepare brings up the API server, the namespaces and the programs: kube-proxy
// and fairlead. Logs are kept if stop finds an error.
func (b *Bench) prepare(ctx context.Context) (found [2]contender, stop func(*error), err error) {
	var undo []func() error
	stop = func(failed *error) {
		for _, f := range slices.Backward(undo) {
			*failed = errors.Join(*failed, f())
		}
		if *failed != nil {
			*failed = fmt.Errorf("%w; logs are in %s", *failed, b.logs)
			return
		}
		*failed = os.RemoveAll(b.logs)
	}
	defer func() {
		if err != nil {
			stop(&err)
		}
	}()
	if b.logs, err = os.MkdirTemp("", "bench-proxy-"); err != nil {
		return found, stop, err
	}
	program, err := lab.KubeProxyProgram(ctx, lab.Options{Out: b.Out})
	if err != nil {
		return found, stop, err
	}
	ours, err := lab.BuildShipped(ctx, b.logs)
	if err != nil {
		return found, stop, err
	}
	api, err := apiserver.Start(ctx, b.logs, b.Out, nodePortRange)
	if err != nil {
		return found, stop, err
	}
	b.api = api
	undo = append(undo, func() error { api.Stop(); return nil })
	if b.world, err = newWorld(ctx); err != nil {
		return found, stop, err
	}
	undo = append(undo, func() error { return b.world.remove(context.WithoutCancel(ctx)) })
	if err := b.connectAPI(ctx, api.Kubeconfig); err != nil {
		return found, stop, err
	}
	theirs, err := kubeProxy(program, api.Kubeconfig, b.logs)
	return [2]contender{theirs, fairlead(ours, api.Kubeconfig, b.logs)}, stop, err
}

// nodePortRange has the API server give enough node ports for a large cluster.
const nodePortRange = "--service-node-port-range=12000-32767"

func (b *Bench) connectAPI(ctx context.Context, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1 // as fast as the API server takes it
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	own, err := kube.FromConfig(config)
	if err != nil {
		return err
	}
	b.cluster = &cluster{client: client, own: own}
	if err := b.world.bringAPI(ctx, config.Host[len("https://"):]); err != nil {
		return err
	}
	return b.cluster.prepare(ctx)
}

// measure measures one number of Services. What a contender left in the kernel
// stays, put to sleep, until connections are made through each in turn.
func (b *Bench) measure(ctx context.Context, n int, contenders [2]contender) (r Result, err error) {
	r.Services = n
	began := time.Now()
	if err := b.cluster.grow(ctx, n); err != nil {
		return r, err
	}
	fmt.Fprintf(b.Out, "%d Services: there after %.1f s\n", n, time.Since(began).Seconds())
	both := [2]*Measured{&r.KubeProxy, &r.Fairlead}
	for i, c := range contenders {
		if *both[i], err = b.drive(ctx, c); err != nil {
			return r, fmt.Errorf("%s: %w", c.name, err)
		}
		if err := c.active(ctx, b.world, false); err != nil {
			return r, err
		}
		fmt.Fprintf(b.Out, "%d Services: %s: %s\n", n, c.name, *both[i])
	}
	if err := b.race(ctx, contenders, both); err != nil {
		return r, err
	}
	for _, c := range contenders {
		err = errors.Join(err, c.clean(ctx, b.world))
	}
	return r, err
}

// drive measures what a contender does itself.
func (b *Bench) drive(ctx context.Context, c contender) (m Measured, err error) {
	for i := range b.Loads {
		l, p, err := b.load(ctx, c)
		if err != nil {
			return m, err
		}
		m.loads = append(m.loads, l)
		if i == b.Loads-1 {
			if m.changes, err = b.changes(ctx, p, b.Changes); err == nil {
				m.memory, err = p.memory()
			}
		}
		p.stop()
		if err != nil {
			return m, err
		}
	}
	return m, nil
}

// race makes connections through what each contender left in the kernel, in
// turn, and to a pod itself. Neither runs meanwhile.
func (b *Bench) race(ctx context.Context, contenders [2]contender, both [2]*Measured) error {
	for run := range b.Runs {
		for _, path := range []struct {
			to    netip.AddrPort
			rates func(*Measured) *[]rate
		}{
			{b.cluster.nodePort(), func(m *Measured) *[]rate { return &m.nodePort }},
			{vipPort(), func(m *Measured) *[]rate { return &m.vip }},
			{podPort(), func(m *Measured) *[]rate { return &m.pod }},
		} {
			got, err := b.alternate(ctx, contenders, run, path.to)
			if err != nil {
				return err
			}
			for i := range both {
				rates := path.rates(both[i])
				*rates = append(*rates, got[i].rate())
			}
		}
	}
	return nil
}

// turns is how often a run changes from one to the other and back: what else the
// machine does comes and goes, and is to hit both.
const turns = 5

// alternate is one run through both.
func (b *Bench) alternate(ctx context.Context, contenders [2]contender, run int, to netip.AddrPort) (got [2]tally, err error) {
	for turn := range turns * len(contenders) {
		i := (run + turn) % len(contenders) // who is first changes
		part, err := b.through(ctx, contenders[i], to)
		if err != nil {
			return got, err
		}
		got[i].add(part)
	}
	return got, nil
}

// through makes connections through what a contender left in the kernel.
func (b *Bench) through(ctx context.Context, c contender, to netip.AddrPort) (tally, error) {
	if err := c.active(ctx, b.world, true); err != nil {
		return tally{}, err
	}
	if err := b.serves(); err != nil {
		return tally{}, fmt.Errorf("what %s left does not serve: %w", c.name, err)
	}
	got, err := b.connect(to, b.Length/turns)
	return got, errors.Join(err, c.active(ctx, b.world, false))
}

func (m Measured) String() string {
	last := m.loads[len(m.loads)-1]
	return fmt.Sprintf("last load %.3f s (programming %.3f s, CPU %.2f s), change p50 %.1f ms p99 %.1f ms (n=%d, CPU %.1f ms each), %.0f MiB",
		last.wall.Seconds(), last.program.Seconds(), last.cpu.Seconds(), ms(at(m.changes.took, 50)), ms(at(m.changes.took, 99)), len(m.changes.took), ms(m.changes.cpu), float64(m.memory)/(1<<20))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
