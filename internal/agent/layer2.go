package agent

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport/health"
)

// layer2 does what Plans say at layer 2. Its loop is apart from the engine's, so
// that an address is taken over while the engine is busy.
type layer2 struct {
	leases leaseKeeper
	loop   *reconcile.Loop
	moved  func() // called when other claims are held
	done   func() // called when what order.withdraw names is given up

	last   layer2Order // that was carried out without an error; the loop's alone
	synced time.Time   // when
	again  atomic.Bool // the holder wants to be called again

	mu      sync.Mutex
	order   layer2Order
	held    []announcer.Claim
	adopted bool   // held is known
	through uint64 // the last order whose withdrawals are done
}

// decideWithin is how long what is held is renewed without a new decision. A decision
// may take long. One that never ends must not hold addresses that others wait for: the
// agent says then that it is not alive.
const decideWithin = health.Timeout

// leaseKeeper is what layer2 acts on: *l2.Leases.
type leaseKeeper interface {
	Adopt() ([]announcer.Claim, error)
	Withdraw(claims []announcer.Claim) error
	Sync(set announcer.Set) ([]announcer.Claim, error)
}

// layer2Order is what one Plan says. Orders that come while one is carried out
// replace each other: each says everything.
type layer2Order struct {
	number   uint64
	withdraw []announcer.Claim
	set      *announcer.Set // nil: leave what is held
	given    time.Time
	links    []snapshot.Link
}

// same reports whether o asks for what was asks for: Plans share what did not
// change.
func (o layer2Order) same(was layer2Order) bool {
	return o.set == was.set && len(o.withdraw) == 0 && diff.Same(o.links, was.links)
}

func newLayer2(leases leaseKeeper, log *slog.Logger, moved, done func()) *layer2 {
	l := &layer2{leases: leases, loop: reconcile.New("layer 2", log), moved: moved, done: done}
	l.loop.Coalesce = 0 // the decider has coalesced already
	l.loop.Resync = announcer.Renew
	return l
}

// Give makes p the plan to carry out, on links as they were last read.
func (l *layer2) Give(number uint64, p node.Plan, links []snapshot.Link) {
	l.mu.Lock()
	next := layer2Order{number, p.Withdraw.Claims, p.Announce.Layer2, time.Now(), links}
	// To renew what is held may take long, while others write much to nftables. The engine
	// does not wait for that where nothing is withdrawn.
	if l.through == l.order.number && next.same(l.order) {
		l.through = number
	}
	l.order = next
	l.mu.Unlock()
	l.loop.Wake()
}

// Again has the order carried out once more.
func (l *layer2) Again() {
	l.again.Store(true)
	l.loop.Wake()
}

// Held returns what is held, sorted; false until the first look at the links.
func (l *layer2) Held() ([]announcer.Claim, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held, l.adopted
}

// Through returns the number of the last order whose withdrawals are done.
func (l *layer2) Through() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.through
}

// Run works until ctx ends and leaves everything held.
func (l *layer2) Run(ctx context.Context) { l.loop.Run(ctx, l.step) }

func (l *layer2) step(context.Context) error {
	held, err := l.leases.Adopt()
	if err != nil {
		return err
	}
	l.setHeld(held)
	l.mu.Lock()
	order := l.order
	l.mu.Unlock()
	err = l.leases.Withdraw(order.withdraw)
	l.mu.Lock()
	waited := l.through < order.number
	l.through = max(l.through, order.number) // also after an error: endpoints must not wait for a link that is gone
	l.mu.Unlock()
	if waited {
		l.done()
	}
	if order.set == nil || time.Since(order.given) > decideWithin {
		return err
	}
	if again := l.again.Swap(false); !again && order.same(l.last) && time.Since(l.synced) < announcer.Renew/2 {
		return nil // most steps change nothing here
	}
	// After an error an equal order has to be tried again.
	l.last = layer2Order{}
	held, err = l.leases.Sync(*order.set) // tries again what Withdraw could not do
	l.setHeld(held)
	if err == nil {
		l.last, l.synced = order, time.Now()
	}
	return err
}

// setHeld keeps what is held.
func (l *layer2) setHeld(held []announcer.Claim) {
	l.mu.Lock()
	news := !l.adopted || !slices.Equal(l.held, held)
	l.held, l.adopted = held, true
	l.mu.Unlock()
	if news {
		l.moved()
	}
}
