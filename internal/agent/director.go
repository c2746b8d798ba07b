package agent

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/direct"
	"github.com/fairlead/fairlead/internal/plain"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/traffic"
	"github.com/fairlead/fairlead/internal/traffic/sample"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/director"
	"github.com/fairlead/fairlead/proxy/director/program"
)

// Director is the program that passes packets on to other nodes: *program.Program.
type Director interface {
	Sync(s *director.State, nftables func() error) error
	Attach(links []int) error
	Held() ([]director.Frontend, error)
	Counters(s *director.State) (*program.Counters, error)
	Without() string // what it does without, "" if nothing
	Close()
}

// Direct is how an agent gets its Director. The zero value is an agent without.
type Direct struct {
	Open   func(director.Seed) (Director, error)
	Pinned func() bool         // an earlier agent left one
	Remove func() (int, error) // takes out what any agent left, and returns from how many links
	// Echo finds out whether the network lets the program work, and calls changed when it
	// finds something else. nil: it is taken to do so.
	Echo func(changed func()) Echo
	// Far finds out which nodes of other subnets get what the program sends them, and calls
	// changed when it finds something else. nil: such nodes take no part.
	Far func(changed func()) Far
}

// Echo asks other nodes whether what the program sends comes through: *echo.Echo.
type Echo interface {
	Set(links []snapshot.Link, peers []direct.Peer, vips []netip.Addr) error
	Verdict() (why string, known bool)
	Close()
}

// Far asks nodes of other subnets whether packets get there: *far.Far.
type Far interface {
	Set(links []snapshot.Link, targets map[netip.Addr]bool, accept []netip.Addr) error
	Ways() map[netip.Addr]direct.Way
	Links() map[int]bool
	Asking() bool
	Close()
}

// Times of a directing. renewLease is how often the maps' lease is renewed at least,
// retryDirector how long an error lets the program rest. A listing of conntrack comes
// listEvery at most, and takes a twentieth of one CPU.
const (
	renewLease    = program.Lease / 3
	retryDirector = 30 * time.Second
	listEvery     = 5 * time.Second
	listSparing   = 20
)

// directing has the program of this node know what a plan says. It begins once a Service
// is to be directed. The engine's loop alone uses it, but for what mu guards.
type directing struct {
	Direct
	log     *slog.Logger
	flows   func(take func(traffic.Flow)) error
	changed func() // Status returns something else
	wake    func() // a listing has ended

	program  Director // nil: it is not loaded
	echo     Echo     // nil: nobody is asked
	far      Far      // nil: no node of another subnet is
	adopted  bool     // its maps hold what an earlier agent wrote
	planner  direct.Planner
	wanted   []snapshot.Ref  // Services that are to be directed
	links    []snapshot.Link // that it is attached to
	table    *proxy.Table    // of the last plan
	rests    time.Time       // until when it is not loaded again
	every    time.Duration   // listEvery
	nextList time.Time

	use    sync.Mutex // held while the program is used
	state  *director.State
	counts DirectorCounts

	mu     sync.Mutex
	status *snapshot.DirectorState
	left   direct.Left
	lists  bool // a listing is under way
}

// Reasons of a node that is not able.
const (
	notAsked     = "no Service asks for it"
	notInstalled = "the agent was not given the rights for eBPF"
	noNeighbour  = "no link leads to another node"
	noIdentity   = "the UID of the namespace kube-system is not known yet"
)

func newDirecting(cfg *Config, changed, wake func()) *directing {
	return &directing{Direct: cfg.Direct, log: cfg.Log, flows: sample.Flows, changed: changed, wake: wake, every: listEvery}
}

// Status returns what the node can do; nil while that is not known. An agent that starts
// must not say that it cannot: the others would take the VIPs' slots from its node.
func (d *directing) Status() *snapshot.DirectorState {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status
}

// say keeps what Status returns. Without a reason the node is able.
func (d *directing) say(why string) {
	now := &snapshot.DirectorState{Able: why == "", Why: plain.Cut(why, snapshot.MaxDirectorWhy)}
	if now.Able {
		now.Links = snapshot.DirectorLinks(d.links, names(d.links))
		now.Why = plain.Cut(d.without(), snapshot.MaxDirectorWhy)
		if d.state != nil {
			now.Reaches = direct.Reached(d.state)
			now.Reaches = now.Reaches[:min(len(now.Reaches), snapshot.MaxDirectorReaches)]
		}
	}
	d.mu.Lock()
	was := d.status
	d.status = now
	d.mu.Unlock()
	if !reflect.DeepEqual(was, now) {
		d.log.Info("the director", "able", now.Able, "why", now.Why, "links", names(d.links))
		d.changed()
	}
}

func sameLink(a, b snapshot.Link) bool { return a.Index == b.Index }

func names(links []snapshot.Link) (out []string) {
	for _, l := range links {
		out = append(out, l.Name)
	}
	return out
}

// DirectorCounts is what the director of this node has done.
type DirectorCounts struct {
	State    *snapshot.DirectorState
	Counters *program.Counters // nil: the program is not there
	// AsksNftables says that nftables looks for connections, which the program cannot.
	AsksNftables bool
	// Weights are the parts of all slots that each node is the primary of, by its name.
	Weights map[string]float64
}

// Counts returns what the director has done. While the engine is at work it returns what
// it returned last. It may be called from any goroutine.
func (d *directing) Counts() DirectorCounts {
	status := d.Status()
	if !d.use.TryLock() {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.counts
	}
	defer d.use.Unlock()
	now := DirectorCounts{State: status}
	if d.program != nil && d.state != nil {
		now.Weights, now.AsksNftables = d.state.Weights(), d.program.Without() != ""
		var err error
		if now.Counters, err = d.program.Counters(d.state); err != nil {
			d.log.Warn("the director's counters", "error", err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts = now
	return now
}

// options adds what the Table needs to know of directing.
func (d *directing) options(node string, order engineOrder, opt *proxy.Options) {
	d.wanted = d.planner.Wanted(order.Snapshot)
	opt.Direct = d.planner.Services(d.wanted, d.table)
	if len(opt.Direct) > 0 && order.Sure {
		opt.Uplinks = d.leading(node, order)
	}
}

// leading are the links by which other nodes are reached, in their networks or behind routers.
func (d *directing) leading(node string, order engineOrder) []snapshot.Link {
	links := direct.Links(order.Links, node, order.View)
	if d.far == nil {
		return links
	}
	behind := d.far.Links()
	for _, l := range order.Links {
		if behind[l.Index] && !slices.ContainsFunc(links, func(o snapshot.Link) bool { return sameLink(l, o) }) {
			links = append(links, l)
		}
	}
	slices.SortFunc(links, func(a, b snapshot.Link) int { return a.Index - b.Index })
	return links
}

// sync has the program know what t asks for, and write called between what goes and what
// comes. If the program cannot, write is called all the same.
func (d *directing) sync(node string, order engineOrder, t *proxy.Table, write func() error) error {
	d.use.Lock()
	defer d.use.Unlock()
	state := d.plan(node, order, t)
	if state == nil {
		return write()
	}
	var failed error
	wrote := false
	err := d.program.Sync(state, func() error {
		wrote = true
		failed = write()
		return failed
	})
	switch {
	case failed != nil:
		return failed
	case err != nil:
		d.fail(err)
		if !wrote {
			return write()
		}
		return nil
	}
	if d.state = state; len(state.Frontends)+len(d.wanted) == 0 {
		d.retire()
		return nil
	}
	d.attach(node, order)
	return nil
}

// plan returns what the program is to know, nil if there is none.
func (d *directing) plan(node string, order engineOrder, t *proxy.Table) *director.State {
	if !d.ready(order.Snapshot) || !order.Sure {
		return nil
	}
	if d.adopted && (len(d.links) == 0 || d.Status() == nil) {
		// Agents that start together wait for each other to say that they are able, which
		// the network may delay. New maps have to be filled first.
		if d.attach(node, order); d.program == nil {
			return nil
		}
	}
	now := monotonic()
	d.list(now, t)
	d.mu.Lock()
	left := d.left
	d.mu.Unlock()
	d.table = t
	in := direct.Inputs{
		Now: now, Node: node, Snapshot: order.Snapshot, Links: order.Links, View: order.View, Table: t, Left: left, Alone: d.alone(),
	}
	if d.far != nil {
		in.Ways, in.Asking = d.far.Ways(), d.far.Asking()
	}
	return d.planner.Plan(in)
}

// alone reports whether the network does not let this node pass packets on.
func (d *directing) alone() bool {
	if d.echo == nil {
		return false
	}
	why, _ := d.echo.Verdict()
	return why != ""
}

// ready reports whether the program is loaded. It loads it if that is wanted, and adopts
// what an earlier agent left.
func (d *directing) ready(s *snapshot.Snapshot) bool {
	switch {
	case d.program != nil:
		return true
	case d.Open == nil:
		if len(d.wanted) > 0 {
			d.say(notInstalled)
		}
		return false
	case len(d.wanted) == 0 && !d.Pinned():
		d.say(notAsked)
		return false
	case time.Now().Before(d.rests):
		return false
	}
	seed, known := direct.Seed(s)
	if !known {
		d.say(noIdentity)
		return false
	}
	p, err := d.Open(seed)
	if err == nil {
		var held []director.Frontend
		if held, err = p.Held(); err == nil {
			d.program, d.adopted = p, len(held) > 0
			d.planner.Adopt(held, monotonic())
			return true
		}
		p.Close()
	}
	d.fail(err)
	return false
}

// fail has the program rest after an error. What is attached goes on with what its maps
// hold, until their lease ends.
func (d *directing) fail(err error) {
	d.log.Error("the director", "error", err)
	if d.program != nil {
		d.program.Close()
		d.program, d.state = nil, nil
	}
	d.hush()
	d.links, d.rests = nil, time.Now().Add(retryDirector)
	d.say(err.Error())
}

// retire takes the program out once nothing is left to do for it.
func (d *directing) retire() {
	d.program.Close()
	d.program, d.links, d.state = nil, nil, nil
	d.hush()
	if _, err := d.Remove(); err != nil {
		d.log.Error("the director stays attached", "error", err)
		d.rests = time.Now().Add(retryDirector)
	}
	d.say(notAsked)
}

// attach attaches the program where other nodes are reached. A link that other nodes
// were reached by stays.
func (d *directing) attach(node string, order engineOrder) {
	d.reach(node, order)
	links := d.leading(node, order)
	for _, l := range order.Links {
		has := func(o snapshot.Link) bool { return o.Index == l.Index }
		if slices.ContainsFunc(d.links, has) && !slices.ContainsFunc(links, has) {
			links = append(links, l)
		}
	}
	slices.SortFunc(links, func(a, b snapshot.Link) int { return a.Index - b.Index })
	if !slices.EqualFunc(d.links, links, sameLink) {
		indexes := make([]int, len(links))
		for i, l := range links {
			indexes[i] = l.Index
		}
		if err := d.program.Attach(indexes); err != nil {
			d.fail(err)
			return
		}
	}
	if d.links = links; len(links) == 0 {
		d.say(noNeighbour)
		return
	}
	if why, known := d.ask(node, order.View); known {
		d.say(why)
	}
}

// ask has other nodes asked whether the network lets the program work, and returns what
// is known of it: why not, "" if it does.
func (d *directing) ask(node string, v announcer.View) (why string, known bool) {
	if d.Echo == nil {
		return "", true
	}
	if d.echo == nil {
		d.echo = d.Echo(d.wake)
	}
	var vips []netip.Addr
	if d.state != nil {
		for _, f := range d.state.Frontends {
			vips = append(vips, f.VIP.Addr())
		}
	}
	if err := d.echo.Set(d.links, direct.Peers(d.links, node, v), vips); err != nil {
		d.log.Warn("cannot ask whether the network lets the director work", "error", err)
		return "", true
	}
	return d.echo.Verdict()
}

// reach has nodes of other subnets asked whether packets get there. Those that may send to this
// node are answered once its program knows their addresses.
func (d *directing) reach(node string, order engineOrder) {
	if d.Far == nil || d.program.Without() != "" { // nftables writes no header
		return
	}
	if d.far == nil {
		d.far = d.Far(d.wake)
	}
	targets := d.planner.Distant(order.Snapshot, order.Links, node, order.View)
	var senders []netip.Addr
	switch {
	case d.state != nil:
		senders = direct.Senders(d.state)
	case d.adopted: // agents that start together would wait for each other
		senders = slices.Collect(maps.Keys(targets))
	}
	if err := d.far.Set(order.Links, targets, senders); err != nil {
		d.log.Warn("cannot ask nodes of other subnets", "error", err)
	}
}

// without says what the node does without, "" if nothing: functions of the kernel, or nodes.
func (d *directing) without() string {
	if d.state == nil || d.far == nil {
		return d.program.Without()
	}
	missing := direct.Missing(d.state)
	if len(missing) == 0 {
		return ""
	}
	return fmt.Sprintf("%s in other subnets did not answer at UDP port %d: the owner of an address translates for them", someOf(missing), director.Port)
}

// someOf names the first three of names, and counts the others.
func someOf(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// hush ends the asking.
func (d *directing) hush() {
	if d.far != nil {
		d.far.Close()
		d.far = nil
	}
	if d.echo != nil {
		d.echo.Close()
		d.echo = nil
	}
}

// list lists conntrack beside the engine's loop if that may end a grace.
func (d *directing) list(now time.Duration, t *proxy.Table) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lists || !d.planner.Listing(now) || time.Now().Before(d.nextList) {
		return
	}
	d.lists = true
	go func() {
		began := time.Now()
		left, err := leftOf(t, now, d.flows)
		d.mu.Lock()
		d.lists, d.nextList = false, time.Now().Add(max(d.every, listSparing*time.Since(began)))
		if err == nil {
			d.left = left
		}
		d.mu.Unlock()
		if err != nil {
			d.log.Warn("the director cannot list connections", "error", err)
		}
		d.wake()
	}()
}

// leftOf is what conntrack has of the VIPs of t.
func leftOf(t *proxy.Table, now time.Duration, flows func(func(traffic.Flow)) error) (direct.Left, error) {
	left := direct.Left{Began: now, Owned: map[proxy.Key]bool{}, Kept: map[proxy.Key]bool{}}
	err := flows(func(f traffic.Flow) {
		key := proxy.Key{
			Kind: proxy.VIP, Family: snapshot.FamilyOf(f.To.Addr()), Addr: f.To.Addr(), Protocol: snapshot.Protocol(f.Protocol), Port: f.To.Port(),
		}
		if ranged := t.Ranged(key.Protocol, f.To); ranged != nil && t.Frontend(key) == nil {
			key = ranged.Key
		}
		switch {
		case t.Frontend(key) == nil, ofThisNode(t, f.From.Addr()):
		case f.Kept:
			left.Kept[key] = true
		default:
			left.Owned[key] = true
		}
	})
	if err != nil {
		return left, fmt.Errorf("list connections: %w", err)
	}
	return left, nil
}

// ofThisNode reports whether a client is this node or a pod of it: these are never
// directed.
func ofThisNode(t *proxy.Table, client netip.Addr) bool {
	return slices.Contains(t.NodePortAddrs, client) || slices.ContainsFunc(t.LocalPods, func(p netip.Prefix) bool { return p.Contains(client) })
}

// monotonic is the clock of the program's maps.
func monotonic() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // it always succeeds
	return time.Duration(now.Nano())
}
