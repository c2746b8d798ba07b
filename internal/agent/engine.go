package agent

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/proxies"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport/health"
	"github.com/fairlead/fairlead/nodeport/socket"
	"github.com/fairlead/fairlead/proxy"
)

// withdrawWithin is how long the engine waits for addresses to be withdrawn
// before it forgets them. Its other changes must not wait for a kernel or a
// router that does not answer.
const withdrawWithin = time.Second

// engine programs what Plans say, or watches over the proxy that forwards
// instead. Its loop is apart from the decision's, so that nothing waits for the
// kernel.
type engine struct {
	cfg      *Config
	loop     *reconcile.Loop
	changed  func() // called when State returns something else
	follow   func(s *snapshot.Snapshot, addrs, own []netip.Addr)
	exceeded func([]snapshot.Problem) // is called before follow
	ways     func() []proxy.Way       // by which answers leave
	through  func() uint64            // the last Plan whose withdrawals are done
	metrics  *metrics
	health   *health.Proxy
	proxy    proxies.Name // who forwarded when the agent started
	pods     *pods        // those that the Accelerator leaves alone
	other    otherProxy
	compiler proxy.Compiler
	own      listening
	assist   assisting
	director *directing
	told     atomic.Bool // somebody else changed the kernel's state since the last Sync began
	repairs  backoff

	mu    sync.Mutex
	order engineOrder
	state engineState
}

// engineOrder is the newest Program.
type engineOrder struct {
	node.Program
	number   uint64      // of the Plan
	given    time.Time   // since when there are withdrawals to wait for
	began    time.Time   // when the changes were taken up
	triggers []time.Time // of those changes; until they are programmed
}

// engineState is what was last confirmed.
type engineState struct {
	node.Engine
	message string
	summary proxy.Summary
	pods    proxy.Known // this node's
}

// Give makes p the program to carry out. triggers are the times of the changes that no
// earlier Program held.
func (e *engine) Give(number uint64, p node.Program, began time.Time, triggers []time.Time) {
	stuck := e.through() < e.order.number
	e.mu.Lock()
	given := time.Now()
	if was := e.order.given; stuck && !was.IsZero() {
		given = was // an announcer that cannot withdraw holds the engine up once, not with every change
	}
	e.order = engineOrder{p, number, given, began, append(e.order.triggers, triggers...)}
	const most = 1000 // while nothing can be programmed
	e.order.triggers = e.order.triggers[max(0, len(e.order.triggers)-most):]
	e.mu.Unlock()
	e.loop.Wake()
}

// State returns what was last confirmed.
func (e *engine) State() engineState {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state
}

// Run works until ctx ends, and leaves everything in the kernel as it is.
func (e *engine) Run(ctx context.Context) {
	e.cfg.Dataplane.Notify(func() {
		e.told.Store(true)
		e.loop.Wake()
	})
	e.loop.Run(ctx, e.step)
}

func (e *engine) step(ctx context.Context) error {
	e.mu.Lock()
	order := e.order
	e.mu.Unlock()
	if order.Snapshot == nil {
		return nil
	}
	// Withdraw first, unprogram last: an address that is still announced attracts
	// packets that an engine without it would refuse.
	if late := order.given.Add(withdrawWithin); e.through() < order.number && time.Now().Before(late) {
		e.loop.At(late)
		return nil
	}
	if e.proxy != Fairlead {
		return e.leave(ctx, order)
	}
	if time.Now().Before(e.repairs.until) {
		e.loop.At(e.repairs.until)
		return nil
	}
	return e.program(ctx, order)
}

// program gives the engine its Table. When that fails the kernel holds what it
// held before, and so does State.
func (e *engine) program(ctx context.Context, order engineOrder) error {
	if again := e.pods.exclude(order.Snapshot); !again.IsZero() {
		e.loop.At(again)
	}
	// Before the Sync, which may not see what is changed while it runs.
	began, told := time.Now(), e.told.Swap(false)
	var change proxy.Change
	table := e.compile(order)
	err := e.director.sync(e.cfg.Node, order, table, func() (err error) {
		change, err = e.cfg.Dataplane.Sync(ctx, table)
		return err
	})
	// Without renewals the program acts after 30 s as if nothing were directed any longer.
	if e.director.program != nil {
		e.loop.At(began.Add(renewLease))
	}
	if told || change.Repaired {
		e.repairs.repaired(began, time.Now())
	}
	e.metrics.synced(change, err)
	now := e.State()
	if err != nil {
		now.InSync, now.message = false, err.Error()
		e.keep(now)
		return fmt.Errorf("program: %w", err)
	}
	if change.Repaired {
		e.cfg.Log.Warn("the engine's kernel state was changed by somebody else; repaired", "added", change.Added, "deleted", change.Deleted, "rebuilt", change.Rebuilt, "pause", e.repairs.pause)
	}
	e.assist.follow(table)
	e.confirm(order)
	if e.compiler.More() {
		e.loop.Wake() // a large Service comes step by step, and what others changed by then with it
	}
	return nil
}

// compile returns the Table that order asks for.
func (e *engine) compile(order engineOrder) *proxy.Table {
	opt := e.cfg.Options
	opt.Quarantined, opt.Self, opt.Own, opt.Routed = order.Quarantined, order.Self, order.Own, order.Routed
	opt.Listening, opt.Ways = e.own.ports(e, order), e.ways()
	if e.proxy == Fairlead {
		e.director.options(e.cfg.Node, order, &opt)
	}
	return e.compiler.Compile(order.Snapshot, e.cfg.Node, order.Addrs, opt)
}

// confirm takes in that the kernel holds what order asked for.
func (e *engine) confirm(order engineOrder) {
	at := time.Now()
	e.mu.Lock()
	// Those that Give added meanwhile are not programmed yet.
	e.order.triggers = slices.Clone(e.order.triggers[min(len(order.triggers), len(e.order.triggers)):])
	e.mu.Unlock()
	summary := e.compiler.Summary()
	e.metrics.programmed(summary, order.triggers, at)
	e.metrics.sync.Observe(at.Sub(order.began).Seconds())
	e.health.Synced(snapshot.IPv4, order.began, at)
	e.health.Synced(snapshot.IPv6, order.began, at)
	e.keep(engineState{
		Engine: node.Engine{Known: true, InSync: true, Ready: summary.VIPs}, message: e.cfg.lacks(), summary: summary, pods: e.compiler.Known(),
	})
	e.exceeded(slices.Concat(e.compiler.Problems(), e.own.problems, e.assist.problems))
	e.follow(order.Snapshot, order.Addrs, proxy.Own(order.Snapshot, order.Self, order.Own))
}

// keep makes now what State returns. Ready keeps its map while it holds the same:
// decisions that remember compare it by identity.
func (e *engine) keep(now engineState) {
	e.mu.Lock()
	was := e.state
	ready := sameReady(was.Ready, now.Ready)
	if ready {
		now.Ready = was.Ready
	}
	e.state = now
	e.mu.Unlock()
	if !ready || was.Known != now.Known || was.InSync != now.InSync || was.Other != now.Other || was.message != now.message ||
		was.summary.Services != now.summary.Services || was.summary.Endpoints != now.summary.Endpoints {
		e.changed()
	}
}

func sameReady(a, b map[netip.Addr]bool) bool {
	if reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer() {
		return true // one map
	}
	if len(a) != len(b) || (a == nil) != (b == nil) {
		return false
	}
	for addr := range a {
		if !b[addr] {
			return false
		}
	}
	return true
}

// newEngine makes an engine that calls changed when State returns something else.
// New fills in ways, through, follow and exceeded, and Run proxy.
func newEngine(cfg *Config, m *metrics, h *health.Proxy, changed func()) *engine {
	e := &engine{cfg: cfg, metrics: m, health: h, changed: changed, loop: reconcile.New("engine", cfg.Log)}
	e.exceeded = func([]snapshot.Problem) {}
	e.ways = func() []proxy.Way { return nil }
	e.own.sockets = socket.Read
	e.loop.Coalesce = 0 // the decider has coalesced already
	e.pods = &pods{cfg: cfg, changed: e.loop.Wake}
	e.other.client.Timeout = time.Second
	e.assist.kernel = cfg.Assist
	e.director = newDirecting(cfg, changed, e.loop.Wake)
	m.director.Follow(e.director.Counts)
	return e
}
