package netlink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

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
	opt     Options
	changed func()            // see Notify
	conn    *conn             // nil before it is needed, and after an error
	watch   *watch            // nil before the first Sync
	ruleset *nftables.Ruleset // as of the last successful Sync; nil before
	unsure  bool              // a Sync failed since then, or nobody watched
	sweeper *sweeper          // nil before the first Sync
	reads   int               // how often a Sync read everything back

	families []*nftables.Family // that the kernel has rules for: see Probe
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
	return &Engine{opt: opt, changed: func() {}, families: nftables.Families}
}

// Notify implements proxy.Dataplane.
func (e *Engine) Notify(changed func()) { e.changed = changed }

// Close closes the Engine's sockets and ends its goroutines. The kernel keeps what it
// holds, and the Engine may be used again.
func (e *Engine) Close() {
	e.disconnect()
	e.unwatch()
	e.endSweeper()
}

// endSweeper stops the comparison of connections until the next Sync.
func (e *Engine) endSweeper() {
	if e.sweeper != nil {
		e.sweeper.stop()
		e.sweeper = nil
	}
}

// disconnect closes the socket that writes. What needs it next opens another.
func (e *Engine) disconnect() {
	if e.conn != nil {
		e.conn.close()
		e.conn = nil
	}
}

// connect makes sure that there is a socket, which the watch ignores if there is one.
func (e *Engine) connect() error {
	if e.conn != nil {
		return nil
	}
	c, err := dial(e.opt.Netns, socketBuffer)
	if err != nil {
		return err
	}
	if e.watch != nil {
		// Otherwise each transaction of ours would count as somebody else's.
		if err := e.watch.ignore(c); err != nil {
			c.close()
			return err
		}
	}
	c.families = e.families
	e.conn = c
	return nil
}

// look makes sure that there is a watch, and reports whether somebody else wrote to our
// tables since the last Sync. What others write from now on is for the next one.
func (e *Engine) look() (touched bool, err error) {
	if e.watch == nil {
		w, err := openWatch(e.opt.Netns, e.changed)
		if err != nil {
			return false, err
		}
		e.disconnect() // the next socket is one that the watch ignores
		e.watch, e.unsure = w, true
	}
	// Without events nothing tells what others wrote, so everything is read again.
	if touched, err = e.watch.take(); err != nil {
		e.unwatch()
		return false, err
	}
	return touched, e.connect()
}

func (e *Engine) unwatch() {
	if e.watch != nil {
		e.watch.close()
		e.watch = nil
	}
}

// connections opens a socket for the sweeper.
func (e *Engine) connections() (connections, error) { return dial(e.opt.Netns, sweepBuffer) }

// attempts is how often a Sync tries. Somebody else may write to our tables between our
// look and our write, and the kernel then refuses ours. The second attempt reads the
// tables. The last one makes them again: something of others may be in the way.
const attempts = 3

// Sync implements proxy.Dataplane. t must not be changed afterwards: the
// Engine remembers it, and takes a Frontend that is the same pointer as last
// time to be unchanged. Beside Sync, from the first one on, a goroutine ends the
// connections that t makes stale, and another one watches our tables. Close ends them.
func (e *Engine) Sync(ctx context.Context, t *proxy.Table) (proxy.Change, error) {
	var err error
	for i := range attempts {
		var c proxy.Change
		if c, err = e.sync(ctx, t, i == attempts-1); err == nil {
			return c, nil
		}
		e.disconnect()
		e.unsure = true
		if ctx.Err() != nil {
			break
		}
	}
	return proxy.Change{}, fmt.Errorf("sync the nftables ruleset: %w", err)
}

func (e *Engine) sync(ctx context.Context, t *proxy.Table, replace bool) (proxy.Change, error) {
	touched, err := e.look()
	if err != nil {
		return proxy.Change{}, err
	}
	next, patches, repaired, err := e.plan(ctx, t, touched, replace)
	if err != nil {
		return proxy.Change{}, err
	}
	if e.sweeper == nil {
		e.sweeper = startSweeper(e.opt.Log, e.connections)
	}
	// Before the commit: the new Table may open a connection before the sweeper has its order.
	e.sweeper.coming.Store(t)
	clients, err := e.conn.clients(ctx, patches)
	if err != nil {
		return proxy.Change{}, err
	}
	if err := ctx.Err(); err != nil {
		return proxy.Change{}, err
	}
	if err := e.write(ctx, patches, clients); err != nil {
		return proxy.Change{}, err
	}
	o := order{table: next.Table, gone: nftables.Gone(patches), leaves: nftables.Leaves(e.table(), next.Table)}
	e.ruleset, e.unsure = next, false
	e.sweeper.give(o)
	change := nftables.Summary(patches)
	change.Repaired = repaired
	e.after(ctx, clients)
	return change, nil
}

// table returns the Table of the last Sync, nil before.
func (e *Engine) table() *proxy.Table {
	if e.ruleset == nil {
		return nil
	}
	return e.ruleset.Table
}

// plan plans from what the last Sync left, or from what the kernel holds if that may
// be something else. repaired reports whether it is.
func (e *Engine) plan(ctx context.Context, t *proxy.Table, touched, replace bool) (next *nftables.Ruleset, patches []*nftables.Patch, repaired bool, err error) {
	known := e.ruleset != nil && !e.unsure
	// Judged by our own tables: where the generation of the ruleset counted, 34 of 35 Syncs failed beside
	// a program that wrote every 5 ms.
	if known && !touched {
		next, patches = e.ruleset.Next(t)
		return next, patches, false, nil
	}
	e.reads++
	kernel, err := e.conn.read(ctx)
	if err != nil {
		return nil, nil, false, err
	}
	if known {
		next, patches = e.ruleset.Repair(kernel, t, e.opt.Mark, replace)
	} else {
		next, patches = nftables.Adopt(kernel, t, e.opt.Mark, replace)
	}
	return next, patches, e.ruleset != nil && e.ruleset.Drifted(kernel), nil
}

// write writes the Patches with the clients that move. If it fails, the table has at
// most sets and chains beside it that nothing leads to.
func (e *Engine) write(ctx context.Context, patches []*nftables.Patch, clients []client) error {
	var steps [3]*batch
	// All is encoded before anything is written, so that a large write is unheard for less time.
	for i := range steps {
		steps[i] = e.encode(patches, i, clients)
	}
	commit := func() (int, error) { return e.commit(steps, patches, clients) }
	if c := nftables.Summary(patches); c.Added+c.Deleted > manyElements {
		return e.unheard(ctx, commit)
	}
	_, err := commit()
	return err
}

// encode makes the transaction of one Step of the Patches.
func (e *Engine) encode(patches []*nftables.Patch, step int, clients []client) *batch {
	b := newBatch(e.conn.seq)
	for _, p := range patches {
		b.step(p, step)
		if step == nftables.Main {
			b.remember(p.Family, clients)
		}
	}
	return b
}

// commit writes the Steps. It returns how many transactions it took, up to an error.
func (e *Engine) commit(steps [3]*batch, patches []*nftables.Patch, clients []client) (transactions int, err error) {
	for i, b := range steps {
		if b.empty() {
			continue
		}
		// Rules that are gone may still run for a packet, and would find their sets gone.
		if i == nftables.Late {
			awaitRules()
		}
		err = e.conn.commit(b)
		if errors.Is(err, unix.ENFILE) && i == nftables.Main && len(clients) > 0 { // a memory is full: they are remembered nowhere
			err = e.conn.commit(e.encode(patches, i, nil))
		}
		if err != nil {
			if transactions > 0 || errors.Is(err, errUnanswered) {
				e.ruleset = nil // what the tables hold is not known, and nobody else changed it
			}
			return transactions, err
		}
		transactions++
	}
	return transactions, nil
}

// awaitRules returns when no packet is in rules that are gone.
func awaitRules() {
	// The kernel runs rules within an RCU section, and this call waits for all of them. It
	// is refused on a machine with nohz_full. Then a packet would have to be in the old
	// rules for longer than a whole transaction takes.
	const global = 1 // MEMBARRIER_CMD_GLOBAL in linux/membarrier.h
	_, _, _ = unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0)
}

// Read returns what the kernel holds of both families' tables. That there is no such table is
// not an error.
func (e *Engine) Read(ctx context.Context) ([]*nftables.Kernel, error) {
	if err := e.connect(); err != nil {
		return nil, err
	}
	kernel, err := e.conn.read(ctx)
	if err != nil {
		e.disconnect()
	}
	return kernel, err
}

// Cleanup implements proxy.Dataplane.
func (e *Engine) Cleanup(ctx context.Context) error {
	// Another proxy may forward from now on, whose connections are not ours to end, and
	// whose tables are not ours to watch.
	e.endSweeper()
	e.unwatch()
	kernel, err := e.Read(ctx)
	if err != nil {
		return fmt.Errorf("clean up nftables: %w", err)
	}
	e.ruleset = nil
	b := newBatch(e.conn.seq)
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
