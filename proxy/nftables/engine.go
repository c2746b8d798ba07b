package nftables

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/proxy"
)

// DefaultMark is the bit that marks a packet for masquerading. kube-proxy has
// 0x4000, kubelet 0x8000, Calico 0xffff0000, Cilium 0x0f00.
const DefaultMark = 0x2000

// kubeProxyMark is the bit that kube-proxy uses, and whose rules may still be
// there while fairlead takes over from it.
const kubeProxyMark = 0x4000

// ParseMark reads a mark of one bit, as "0x2000" or "8192".
func ParseMark(text string) (uint32, error) {
	mark, err := strconv.ParseUint(text, 0, 32)
	switch {
	case err != nil || bits.OnesCount64(mark) != 1:
		return 0, fmt.Errorf("%q is no number with one bit set", text)
	case mark == kubeProxyMark:
		return 0, fmt.Errorf("%#x is the bit that kube-proxy uses", mark)
	}
	return uint32(mark), nil
}

// Options are an Engine's parameters; the zero value is usable.
type Options struct {
	// Netns is an open file descriptor of the network namespace to act in; 0 is
	// the caller's own. It must stay open as long as the Engine is used.
	Netns int
	// Mark is the one bit of the packet mark that the engine uses between its own
	// chains. 0: DefaultMark.
	Mark uint32
	// Log gets what is neither an error nor a result; nil: slog.Default().
	Log *slog.Logger
}

// Engine is the proxy.Dataplane on nftables. It is used by one goroutine.
type Engine struct {
	opt     Options
	layouts []layout
	conn    *conn
	watch   *watch // nil if it is not known to have seen everything since state
	state   *state // as of the last successful Sync; nil before
	left    leftover
	replace bool // the next Sync replaces a table that it would else swap
	reads   int  // how often a Sync read everything back
}

var _ proxy.Dataplane = (*Engine)(nil)

// New makes an Engine. It starts and opens nothing.
func New(opt Options) *Engine {
	if opt.Mark == 0 {
		opt.Mark = DefaultMark
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	e := &Engine{opt: opt}
	for _, f := range families {
		e.layouts = append(e.layouts, layout{f, opt.Mark})
	}
	return e
}

// Close closes the Engine's socket. The kernel keeps what it holds, and the
// Engine may be used again.
func (e *Engine) Close() {
	if e.conn != nil {
		e.conn.close()
		e.conn = nil
	}
	e.unwatch()
}

// connect makes sure that there is a socket.
func (e *Engine) connect() error {
	if e.conn != nil {
		return nil
	}
	var err error
	e.conn, err = dial(e.opt.Netns, socketBuffer)
	return err
}

// restarts is how often a transaction is tried again because somebody else
// changed the ruleset between our look and our write.
const restarts = 10

// errReplace says that a table's static part could not be swapped, and that the
// table as a whole is to be replaced.
var errReplace = errors.New("swap the static part")

// Sync implements proxy.Dataplane. t must not be changed afterwards: the
// Engine remembers it, and takes a Frontend that is the same pointer as last
// time to be unchanged.
func (e *Engine) Sync(ctx context.Context, t *proxy.Table) (proxy.Change, error) {
	var err error
	for range restarts {
		var c proxy.Change
		if c, err = e.sync(ctx, t); err == nil {
			return c, nil
		}
		e.Close()
		if !errors.Is(err, unix.ERESTART) && !errors.Is(err, errReplace) {
			break
		}
	}
	return proxy.Change{}, fmt.Errorf("sync the nftables ruleset: %w", err)
}

func (e *Engine) sync(ctx context.Context, t *proxy.Table) (proxy.Change, error) {
	if err := e.connect(); err != nil {
		return proxy.Change{}, err
	}
	gen, err := e.conn.generation(ctx)
	if err != nil {
		return proxy.Change{}, err
	}
	s := &step{engine: e, old: e.state, now: &state{table: t, generation: gen}}
	if e.unchanged(gen) {
		s.incremental()
	} else if err := s.full(ctx); err != nil {
		return proxy.Change{}, err
	}
	if err := s.commit(ctx); err != nil {
		if s.swaps() && !e.replace && ctx.Err() == nil && !errors.Is(err, unix.ERESTART) {
			e.replace = true // somebody else's objects may be in the way
			return proxy.Change{}, fmt.Errorf("%w: %w", errReplace, err)
		}
		return proxy.Change{}, err
	}
	e.replace = false
	e.state = s.now
	e.after(ctx, s)
	if err := e.watchFrom(ctx, e.state.generation); err != nil {
		e.opt.Log.Debug("Could not watch the ruleset: a change by others costs a full read", "err", err)
	}
	return s.change, nil
}

// step is one Sync on its way.
type step struct {
	engine  *Engine
	old     *state // what the kernel holds; nil if unknown
	now     *state // what it shall hold
	changes []change
	plans   []*plan
	change  proxy.Change
}

// incremental plans from what the last Sync left.
func (s *step) incremental() {
	s.now.fronts, s.changes = frontendsDiff(s.old.fronts, s.now.table.Frontends)
	for _, l := range s.engine.layouts {
		s.plans = append(s.plans, l.planChanges(s.old, s.now, s.changes))
	}
}

// full plans from what the kernel holds.
func (s *step) full(ctx context.Context) error {
	s.engine.reads++
	s.engine.unwatch()
	kernel, gen, err := s.engine.conn.read(ctx)
	if err != nil {
		return err
	}
	s.now.generation = gen
	if s.old != nil {
		s.change.Repaired = s.engine.drifted(kernel, s.old)
	}
	found := parseHeld(kernel)
	s.now.fronts, s.changes = frontendsDiff(found.fronts, s.now.table.Frontends)
	if s.old == nil {
		s.old = found
	}
	for _, l := range s.engine.layouts {
		s.plans = append(s.plans, l.planFull(kernel[l.family], s.now.table, s.now.fronts, s.engine.replace))
	}
	return nil
}

// drifted tells whether the kernel holds something else than the last Sync left.
func (e *Engine) drifted(kernel map[*family]*held, last *state) bool {
	for _, l := range e.layouts {
		h := kernel[l.family]
		p := &plan{family: l.family, specs: last.specs[l.family]}
		if !h.exists || !h.ours() || !p.adopt(h, l.objects(last.shapes[l.family])) || p.rebuilt() {
			return true
		}
		if !diffElements(h.elements, l.render(last.table, last.fronts)).empty() {
			return true
		}
	}
	return false
}

// commit writes the plans in one transaction, or nothing if there is nothing.
func (s *step) commit(ctx context.Context) error {
	s.now.shapes, s.now.specs = map[*family]shape{}, map[*family]map[string]setSpec{}
	empty := true
	for _, p := range s.plans {
		s.now.shapes[p.family], s.now.specs[p.family] = p.shape, p.specs
		s.change.Added += len(p.delta.add)
		s.change.Deleted += len(p.delta.del)
		s.change.Rebuilt = s.change.Rebuilt || p.create || p.replace || p.swap || p.rebuilt() && p.delta.empty()
		empty = empty && p.empty()
	}
	if err := ctx.Err(); err != nil || empty {
		return err
	}
	if s.change.Added+s.change.Deleted > manyElements || s.change.Rebuilt {
		s.engine.unwatch()
	}
	grown, err := s.transact((*plan).grow)
	if err == nil {
		_, err = s.transact((*plan).write)
	}
	if err != nil && grown {
		s.engine.state = nil // there are chains that it does not know of
	}
	return err
}

// swaps tells whether a static part is swapped.
func (s *step) swaps() bool {
	return slices.ContainsFunc(s.plans, func(p *plan) bool { return p.swap })
}

// transact commits what write appends to a batch for each plan, if anything.
func (s *step) transact(write func(*plan, *batch) bool) (bool, error) {
	c := s.engine.conn
	b := newBatch(c.seq, s.now.generation)
	wrote := false
	for _, p := range s.plans {
		wrote = write(p, b) || wrote
	}
	if !wrote {
		return false, nil
	}
	if err := c.commit(b); err != nil {
		return false, err
	}
	if s.now.generation++; s.now.generation == 0 {
		s.now.generation++
	}
	s.engine.ours(s.now.generation)
	return true, nil
}

// Dump implements proxy.Dataplane.
func (e *Engine) Dump(ctx context.Context) (*proxy.Table, error) {
	kernel, err := e.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("dump the nftables ruleset: %w", err)
	}
	if !kernel[ip4].exists && !kernel[ip6].exists {
		return nil, nil
	}
	return parseHeld(kernel).table, nil
}

func (e *Engine) read(ctx context.Context) (map[*family]*held, error) {
	if err := e.connect(); err != nil {
		return nil, err
	}
	kernel, _, err := e.conn.read(ctx)
	if err != nil {
		e.Close()
	}
	return kernel, err
}

// parseHeld is the Table, with slots, that the kernel holds.
func parseHeld(kernel map[*family]*held) *state {
	s := &state{}
	var tables []*proxy.Table
	for _, f := range families {
		t, fronts := f.parse(kernel[f].sound(f))
		tables = append(tables, t)
		s.fronts = append(s.fronts, fronts...)
	}
	s.table = joinTables(tables...)
	sortPlaced(s.fronts)
	return s
}

// Cleanup implements proxy.Dataplane.
func (e *Engine) Cleanup(ctx context.Context) error {
	kernel, err := e.read(ctx)
	if err != nil {
		return fmt.Errorf("clean up nftables: %w", err)
	}
	b := newBatch(e.conn.seq, 0)
	found := false
	for _, f := range families {
		if kernel[f].exists {
			b.deleteTable(f)
			found = true
		}
	}
	if !found {
		return nil
	}
	if err := e.conn.commit(b); err != nil {
		e.Close()
		return fmt.Errorf("clean up nftables: %w", err)
	}
	return nil
}
