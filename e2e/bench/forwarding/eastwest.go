package forwarding

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

// EastWest measures how a pod reaches a pod: itself, and through its ClusterIP by
// kube-proxy, by fairlead's nftables, and by its eBPF programs before them. What
// each left in the kernel is used in turn; none of them runs meanwhile.
type EastWest struct {
	Bench

	east   *east
	cgroup *benchCgroup
	pins   *benchPins
	active *contender // whose tables count; nil: nobody's
}

// eastTurns is turns for the five routes, which differ less than two proxies.
const eastTurns = 10

// route is a way to reach a pod.
type route int

// The routes. The pod itself is reached twice: on a node that no proxy has touched
// but for connection tracking, and on one with fairlead's tables in place. The
// latter is the limit: packets pass those tables whatever they are sent to.
const (
	bare route = iota
	byKubeProxy
	direct
	byNFTables
	byEBPF
	routes
)

func (r route) String() string {
	return [...]string{"no proxy", "kube-proxy", "pod itself", "fairlead nftables", "fairlead eBPF"}[r]
}

// place is where the pod is that is reached.
type place int

const (
	near place = iota // on the same node
	far               // on another one
	places
)

func (p place) String() string { return [...]string{"same node", "another node"}[p] }

// Crossing is what came of one kind of load between two places.
type Crossing struct {
	Services int
	Place    place
	Load     string
	runs     [][routes]work // one turn of each
}

// Run measures everything.
func (b *EastWest) Run(ctx context.Context) (out []Crossing, err error) {
	contenders, stop, err := b.prepare(ctx)
	if err != nil {
		return nil, err
	}
	defer stop(&err)
	undo, err := b.extend(ctx, &contenders[1])
	defer func() { err = errors.Join(err, undo()) }()
	if err != nil {
		return nil, err
	}
	for _, n := range b.Sizes {
		got, err := b.measureEast(ctx, n, &contenders)
		if err != nil {
			return out, fmt.Errorf("%d Services: %w", n, err)
		}
		out = append(out, got...)
	}
	return out, nil
}

// extend adds what is not needed by other benchmarks: two more namespaces of
// pods, their Services, and a cgroup and a bpf filesystem for fairlead.
func (b *EastWest) extend(ctx context.Context, ours *contender) (undo func() error, err error) {
	undo = func() error {
		var errs []error
		if b.east != nil {
			errs = append(errs, b.east.remove(context.WithoutCancel(ctx)))
		}
		if b.pins != nil {
			errs = append(errs, b.pins.close())
		}
		if b.cgroup != nil {
			errs = append(errs, b.cgroup.remove())
		}
		return errors.Join(errs...)
	}
	if b.cgroup, err = newBenchCgroup(); err != nil {
		return undo, err
	}
	if b.pins, err = newBenchPins(); err != nil {
		return undo, err
	}
	ours.args = append(ours.args, "--accelerate=auto", "--cgroup="+b.cgroup.pods, "--bpf-dir="+b.pins.dir)
	if b.east, err = newEast(ctx, b.world); err != nil {
		return undo, err
	}
	return undo, b.cluster.eastWest(ctx)
}

// measureEast has both contenders program one number of Services, and then uses
// what they left.
func (b *EastWest) measureEast(ctx context.Context, n int, contenders *[2]contender) (out []Crossing, err error) {
	if err := b.cluster.grow(ctx, n); err != nil {
		return nil, err
	}
	for _, c := range contenders {
		_, p, err := b.load(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		if c.state != "" {
			err = until(ctx, 20*time.Millisecond, patience, "the eBPF programs", b.pins.attached)
		}
		p.stop()
		if err := errors.Join(err, c.active(ctx, b.world, false)); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(b.pins.hold(), b.alone()); err != nil {
		return nil, err
	}
	everywhere, err := onOneCore()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, everywhere()) }()
	for at := range places {
		for _, l := range eastLoads {
			c := Crossing{Services: n, Place: at, Load: l.name}
			for run := range b.Runs * eastTurns {
				got, err := b.each(ctx, contenders, l, at, run)
				if err != nil {
					return out, fmt.Errorf("%s, %s: %w", l.name, at, err)
				}
				c.runs = append(c.runs, got)
			}
			fmt.Fprintf(b.Out, "%d Services: %s: %s\n", n, at, c)
			out = append(out, c)
		}
	}
	err = b.use(ctx, nil)
	for _, c := range contenders {
		err = errors.Join(err, c.clean(ctx, b.world))
	}
	return out, err
}

// onOneCore keeps this process on one core, with clients and servers. On several it
// is chance who is woken where, and that makes more of a difference than what is
// compared.
func onOneCore() (back func() error, err error) {
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return nil, err
	}
	for cpu := range 8 * int(unsafe.Sizeof(all)) {
		if all.IsSet(cpu) {
			one.Zero()
			one.Set(cpu) // the last: the first one has most interrupts
		}
	}
	return func() error { return everyThread(&all) }, everyThread(&one)
}

func everyThread(on *unix.CPUSet) error {
	found, err := os.ReadDir("/proc/self/task")
	for _, thread := range found {
		id, fault := strconv.Atoi(thread.Name())
		if fault == nil {
			fault = unix.SchedSetaffinity(id, on)
		}
		if !errors.Is(fault, unix.ESRCH) { // it ended
			err = errors.Join(err, fault)
		}
	}
	return err
}

// alone makes sure that the eBPF programs do it: no table counts.
func (b *EastWest) alone() error {
	for at := range places {
		err := b.cgroup.inside(true, func() error {
			return b.east.client.do(func() error { return accepts(b.cluster.east[at].at(80), time.Second) })
		})
		if err != nil {
			return fmt.Errorf("the eBPF programs alone: %w", err)
		}
	}
	return nil
}

// each is one turn of every route. What else the machine does comes and goes: it
// counts less the shorter the turns are and the more there are of them.
func (b *EastWest) each(ctx context.Context, contenders *[2]contender, l eastLoad, at place, run int) (got [routes]work, err error) {
	for turn := range int(routes) {
		r := route((run + turn) % int(routes)) // who is first changes
		if got[r], err = b.travel(ctx, contenders, l, at, r); err != nil {
			return got, fmt.Errorf("%s: %w", r, err)
		}
	}
	return got, nil
}

// use makes the tables of one contender count, or of none.
func (b *EastWest) use(ctx context.Context, c *contender) error {
	if b.active == c {
		return nil
	}
	script := ""
	if b.active != nil {
		script += b.active.flags(false)
	}
	if c != nil {
		script += c.flags(true)
	}
	b.active = c
	return b.world.node.run(ctx, script, "nft", "-f", "-")
}

// travel puts a load on one route.
func (b *EastWest) travel(ctx context.Context, contenders *[2]contender, l eastLoad, at place, r route) (out work, err error) {
	to := b.cluster.east[at].at(l.port)
	var active *contender
	switch r {
	case bare:
		to = netip.AddrPortFrom(eastPods[at], l.target)
	case byKubeProxy:
		active = &contenders[0]
	case direct:
		to = netip.AddrPortFrom(eastPods[at], l.target)
		active = &contenders[1]
	default:
		active = &contenders[1]
	}
	if err := errors.Join(b.east.from(ctx, r), b.use(ctx, active)); err != nil {
		return out, err
	}
	err = b.cgroup.inside(r == byEBPF, func() error {
		return b.east.client.do(func() error {
			out, err = l.measure(to, b.Length/eastTurns)
			return err
		})
	})
	return out, err
}

func (c Crossing) String() string {
	text := c.Load
	for r := range routes {
		rates := make([]float64, len(c.runs))
		for i := range c.runs {
			rates[i] = c.runs[i][r].rate()
		}
		text += fmt.Sprintf(", %s %.4g/s", r, report.Median(rates).Center)
	}
	return text
}

// work is what came of a load.
type work struct {
	took []time.Duration // of each connection or request
	laps []lap
}

// lap is a short part of a turn. The machine is shared and sometimes stalls: the
// median of the laps does not show that.
type lap struct {
	done   float64       // connections, requests or bytes
	cpu    time.Duration // of both sides
	length time.Duration
}

// rate returns the median of the laps' rates, in events or bytes a second.
func (w work) rate() float64 {
	rates := make([]float64, len(w.laps))
	for i, l := range w.laps {
		rates[i] = l.done / l.length.Seconds()
	}
	return report.Median(rates).Center
}

// cpuEach returns the median of the laps' processor time of one event, in seconds.
func (w work) cpuEach() float64 {
	var each []float64
	for _, l := range w.laps {
		if l.done > 0 { // a signal may have interrupted the only one
			each = append(each, l.cpu.Seconds()/l.done)
		}
	}
	return report.Median(each).Center
}

func (w work) percentile(p int) float64 { return at(slices.Sorted(slices.Values(w.took)), p).Seconds() }

// benchCgroup is a cgroup like a kubelet's, with one of a pod in it where the eBPF
// programs are, and with one where they are not. They are alike but for that: what
// the kernel counts for each cgroup costs the more the deeper it is.
type benchCgroup struct {
	root, pods    string
	with, without string // the programs
}

func newBenchCgroup() (*benchCgroup, error) {
	base := "/sys/fs/cgroup"
	if _, err := os.Stat(base + "/unified/cgroup.procs"); err == nil {
		base += "/unified"
	}
	root := fmt.Sprintf("%s/%s%d", base, prefix, os.Getpid())
	c := &benchCgroup{root, root + "/kubepods", root + "/kubepods/pod", root + "/others/pod"}
	for _, dir := range []string{c.with, c.without} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return c, err
		}
	}
	return c, join(c.root)
}

func join(cgroup string) error {
	return os.WriteFile(cgroup+"/cgroup.procs", []byte("0"), 0o644)
}

// inside runs f as a program of a pod: its sockets are the pod's.
func (c *benchCgroup) inside(programs bool, f func() error) error {
	pod := c.without
	if programs {
		pod = c.with
	}
	if err := join(pod); err != nil {
		return err
	}
	return errors.Join(f(), join(c.root))
}

func (c *benchCgroup) remove() error {
	err := join(c.root + "/..")
	for _, dir := range []string{c.with, c.pods, c.without, path.Dir(c.without), c.root} {
		err = errors.Join(err, until(context.Background(), 20*time.Millisecond, patience, "an empty cgroup", func() error {
			if err := os.Remove(dir); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		}))
	}
	return err
}
