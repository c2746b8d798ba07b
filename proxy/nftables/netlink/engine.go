package netlink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// Options are an Engine's parameters; the zero value is usable.
type Options struct {
	// Netns is an open file descriptor of the network namespace to act in; 0 is
	// the caller's own. It must stay open as long as the Engine is used.
	Netns int
	// Mark is the one bit of the packet mark that the engine uses between its own
	// chains. 0: nftables.DefaultMark.
	Mark uint32
	// Log gets what is neither an error nor a result; nil: slog.Default().
	Log *slog.Logger
}

// Engine is the proxy.Dataplane on nftables. It is used by one goroutine.
type Engine struct {
	opt        Options
	conn       *conn
	watch      *watch            // nil if it is not known to have seen everything since generation
	ruleset    *nftables.Ruleset // as of the last successful Sync; nil before
	generation uint32            // at which the kernel held it
	sweeper    *sweeper          // nil before the first Sync
	replace    bool              // the next Sync replaces a table that it would else swap
	reads      int               // how often a Sync read everything back
}

var _ proxy.Dataplane = (*Engine)(nil)

// New makes an Engine. It starts and opens nothing.
func New(opt Options) *Engine {
	if opt.Mark == 0 {
		opt.Mark = nftables.DefaultMark
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	return &Engine{opt: opt}
}

// Close closes the Engine's sockets and ends its goroutine. The kernel keeps what it
// holds, and the Engine may be used again.
func (e *Engine) Close() {
	e.disconnect()
	e.endSweeper()
}

// endSweeper stops the comparison of connections until the next Sync.
func (e *Engine) endSweeper() {
	if e.sweeper != nil {
		e.sweeper.stop()
		e.sweeper = nil
	}
}

// disconnect closes the sockets of Sync. The next Sync opens others.
func (e *Engine) disconnect() {
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

// connections opens a socket for the sweeper.
func (e *Engine) connections() (connections, error) { return dial(e.opt.Netns, sweepBuffer) }

// errReplace says that a table's static part could not be swapped, and that the
// table as a whole is to be replaced.
var errReplace = errors.New("swap the static part")

// Sync implements proxy.Dataplane. t must not be changed afterwards: the
// Engine remembers it, and takes a Frontend that is the same pointer as last
// time to be unchanged. Beside Sync, from the first one on, a goroutine ends the
// connections that t makes stale. Close ends it.
func (e *Engine) Sync(ctx context.Context, t *proxy.Table) (proxy.Change, error) {
	var err error
	for range restarts {
		var c proxy.Change
		if c, err = e.sync(ctx, t); err == nil {
			return c, nil
		}
		e.disconnect()
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
	var next *nftables.Ruleset
	var patches []*nftables.Patch
	repaired := false
	if e.unchanged(gen) {
		next, patches = e.ruleset.Next(t)
	} else {
		e.reads++
		e.unwatch()
		var kernel []*nftables.Kernel
		if kernel, gen, err = e.conn.read(ctx); err != nil {
			return proxy.Change{}, err
		}
		repaired = e.ruleset != nil && e.ruleset.Drifted(kernel)
		next, patches = nftables.Adopt(kernel, t, e.opt.Mark, e.replace)
	}
	if e.sweeper == nil {
		e.sweeper = startSweeper(e.opt.Log, e.connections)
	}
	e.sweeper.coming.Store(t)
	clients, err := e.conn.clients(ctx, patches)
	if err != nil {
		return proxy.Change{}, err
	}
	if gen, err = e.write(ctx, patches, clients, gen); err != nil {
		return proxy.Change{}, e.replaceAfter(ctx, patches, err)
	}
	e.replace, e.ruleset, e.generation = false, next, gen
	e.sweeper.give(order{next.Table, nftables.Gone(patches)})
	change := nftables.Summary(patches)
	change.Repaired = repaired
	e.after(ctx, clients)
	if err := e.watchFrom(ctx, e.generation); err != nil {
		e.opt.Log.Debug("Could not watch the ruleset: a change by others costs a full read", "err", err)
	}
	return change, nil
}

// replaceAfter returns err. If the kernel refused a swap, the next Sync replaces the
// tables instead: somebody else's objects may be in the way.
func (e *Engine) replaceAfter(ctx context.Context, patches []*nftables.Patch, err error) error {
	swaps := slices.ContainsFunc(patches, func(p *nftables.Patch) bool { return p.Swap })
	if !swaps || e.replace || ctx.Err() != nil || errors.Is(err, unix.ERESTART) {
		return err
	}
	e.replace = true
	return fmt.Errorf("%w: %w", errReplace, err)
}

// write writes the Patches with the clients that move, all of them or nothing, if the
// ruleset is still at generation gen. It returns the generation afterwards.
func (e *Engine) write(ctx context.Context, patches []*nftables.Patch, clients []client, gen uint32) (uint32, error) {
	empty := !slices.ContainsFunc(patches, func(p *nftables.Patch) bool { return !p.Empty() })
	if err := ctx.Err(); err != nil || empty {
		return gen, err
	}
	if c := nftables.Summary(patches); c.Added+c.Deleted > manyElements || c.Rebuilt {
		e.unwatch()
	}
	grown, err := e.transact(patches, gen, (*batch).early)
	if err != nil {
		return gen, err
	}
	after, err := e.transact(patches, grown, func(b *batch, p *nftables.Patch) {
		b.patch(p)
		b.remember(p.Family, clients)
	})
	if errors.Is(err, unix.ENFILE) && len(clients) > 0 { // a memory is full: they are remembered nowhere
		after, err = e.transact(patches, grown, (*batch).patch)
	}
	if err != nil && grown != gen {
		e.ruleset = nil // there are chains that it does not have
	}
	return after, err
}

// transact commits what add appends to a batch for each Patch, if anything. It
// returns the generation afterwards.
func (e *Engine) transact(patches []*nftables.Patch, gen uint32, add func(*batch, *nftables.Patch)) (uint32, error) {
	b := newBatch(e.conn.seq, gen)
	begun := len(b.buf)
	for _, p := range patches {
		add(b, p)
	}
	if len(b.buf) == begun {
		return gen, nil
	}
	if err := e.conn.commit(b); err != nil {
		return gen, err
	}
	if gen++; gen == 0 {
		gen++ // the kernel never uses 0, which stands for any generation
	}
	e.ours(gen)
	return gen, nil
}

// Dump implements proxy.Dataplane.
func (e *Engine) Dump(ctx context.Context) (*proxy.Table, error) {
	kernel, err := e.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("dump the nftables ruleset: %w", err)
	}
	if !slices.ContainsFunc(kernel, func(k *nftables.Kernel) bool { return k.Exists }) {
		return nil, nil
	}
	return nftables.Parse(kernel).Table, nil
}

func (e *Engine) read(ctx context.Context) ([]*nftables.Kernel, error) {
	if err := e.connect(); err != nil {
		return nil, err
	}
	kernel, _, err := e.conn.read(ctx)
	if err != nil {
		e.disconnect()
	}
	return kernel, err
}

// Cleanup implements proxy.Dataplane.
func (e *Engine) Cleanup(ctx context.Context) error {
	// Another proxy may forward from now on, whose connections are not ours to end.
	e.endSweeper()
	kernel, err := e.read(ctx)
	if err != nil {
		return fmt.Errorf("clean up nftables: %w", err)
	}
	b := newBatch(e.conn.seq, 0)
	found := false
	for _, k := range kernel {
		if k.Exists {
			b.deleteTable(k.Family)
			found = true
		}
	}
	if !found {
		return nil
	}
	if err := e.conn.commit(b); err != nil {
		e.disconnect()
		return fmt.Errorf("clean up nftables: %w", err)
	}
	return nil
}
