package netlink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// Times of a sweeper. dialsAfter is how long after a change of the Table TCP
// connections are compared: sooner than the second packet of one that was opened just
// then (1 s, RFC 6298), and late enough that an endpoint that is merely leaving has
// answered. Where endpoints go all the time, a sweep of TCP comes every dialsEvery for all
// that went by then: it takes milliseconds, and a client sends its fourth packet 7 s after
// the first. Before that come dialsAtOnce sweeps without a wait. What is urgent never
// waits, such as a node that is lost. After a sweep the next one waits resting times as
// long as it took, but not longer than maxRest. What is due every sweepEvery takes a fiftieth of a core at most:
// Linux before 5.18 lists all TCP connections, which may be a million.
const (
	sweepEvery  = 30 * time.Second
	sweepRetry  = time.Second
	dialsAfter  = 500 * time.Millisecond
	dialsEvery  = 5 * time.Second
	dialsAtOnce = 2
	resting     = 9
	maxRest     = time.Second
	sparing     = 50
	// lostFor is how long the node of an endpoint has to be lost before connections
	// that the endpoint has answered end. Nodes that vanish for a moment are common: a
	// VM that stalls, a link that flaps. Their connections live on.
	lostFor = 5 * time.Second
)

// connections are what a sweeper lists and ends.
type connections interface {
	// list returns the connections that match, of TCP only those that are not answered
	// unless all is set. After an error it returns what it had read.
	list(ctx context.Context, which listing, all bool, match func(nftables.Flow) bool) ([]tracked, error)
	// end ends connections as they were listed, and returns how many.
	end(listed []tracked) (int, error)
	// tell has the clients of those that were open learn that they ended.
	tell(ctx context.Context, ended []tracked) error
	close()
}

// sweeper ends the connections that the Table makes stale, in a goroutine of its own:
// when it starts, after each change that may make some stale, and every sweepEvery as far
// as the Table has Frontends of the Network. It
// always compares a whole Network, so that nothing depends on an earlier sweep, nor on
// an earlier process.
type sweeper struct {
	open   func() (connections, error)
	log    *slog.Logger
	orders chan order // one slot, for the newest
	// coming is the Table that a Sync is about to commit, or has. A connection may
	// have been opened by it before the sweeper takes the order.
	coming atomic.Pointer[proxy.Table]
	cancel context.CancelFunc
	done   chan struct{}
}

// order is a Table that is in force, and the Frontends that went since the last order
// that was taken.
type order struct {
	table  *proxy.Table
	gone   []proxy.Key
	leaves bool // so may open connections, by one of the Tables since then: see nftables.Leaves
}

// startSweeper starts a sweeper, which does nothing before it is given a Table.
func startSweeper(log *slog.Logger, open func() (connections, error)) *sweeper {
	ctx, cancel := context.WithCancel(context.Background())
	s := &sweeper{open: open, log: log, orders: make(chan order, 1), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.run(ctx)
	}()
	return s
}

// stop ends the sweeper and returns when it has ended.
func (s *sweeper) stop() {
	s.cancel()
	<-s.done
}

// give replaces the order that was not taken yet. It never blocks, because only one
// goroutine gives.
func (s *sweeper) give(o order) {
	select {
	case missed := <-s.orders:
		// A connection of a Table that the sweeper never saw may go to an endpoint that came and went.
		o.gone, o.leaves = append(missed.gone, o.gone...), o.leaves || missed.leaves
	default:
	}
	s.orders <- o
}

func (s *sweeper) run(ctx context.Context) {
	todo := newAgenda()
	timer := time.NewTimer(sweepEvery)
	defer timer.Stop()
	for {
		timer.Reset(todo.wait(time.Now()))
		select {
		case <-ctx.Done():
			return
		case o := <-s.orders:
			todo.take(o, time.Now())
		case <-timer.C:
			s.sweep(ctx, &todo)
		}
	}
}

// sweep compares the Networks that are due. What fails is due again soon.
func (s *sweeper) sweep(ctx context.Context, todo *agenda) {
	began := time.Now()
	networks := todo.now(began)
	if len(networks) == 0 {
		return
	}
	ended, err := s.compare(ctx, todo, networks)
	if ctx.Err() != nil {
		return
	}
	if ended > 0 {
		s.log.Debug("Ended connections to endpoints that no longer serve them", "connections", ended)
	}
	if err != nil && !todo.failing {
		s.log.Warn("Could not compare the connections of this node with its endpoints, will try again", "err", err)
	}
	todo.did(networks, began, time.Now(), err)
}

// compare ends the stale connections of networks, and returns how many.
func (s *sweeper) compare(ctx context.Context, todo *agenda, networks []nftables.Network) (total int, err error) {
	c, err := s.open()
	if err != nil {
		return 0, err
	}
	defer c.close()
	began := time.Now()
	all := todo.leaves || todo.lostLong(began)
	stale := func(f nftables.Flow) bool {
		return f.Stale(todo.table, todo.gone) && (!f.Open() || began.Sub(todo.lostSince(f.From)) >= lostFor || f.Left(todo.table))
	}
	for _, l := range listings(networks, all) {
		listed, failed := c.list(ctx, l, all, stale)
		// What was listed is right although the list was interrupted.
		listed = s.settled(listed, todo.gone)
		ended, also := c.end(listed)
		total += ended
		if err := c.tell(ctx, listed); err != nil {
			s.log.Debug("Some clients learn with their next packet that their connection ended", "err", err)
		}
		if err := errors.Join(failed, also); err != nil {
			return total, fmt.Errorf("%s: %w", l, explain(err))
		}
	}
	return total, nil
}

// listing is what the kernel lists at once: one Network, or one protocol over both families.
type listing struct {
	nftables.Network
	both bool // whatever the Network's family
}

func (l listing) String() string {
	if l.both {
		return l.Protocol.String()
	}
	return l.Network.String()
}

// listings returns the fewest lists that have all of networks. Most of what a list costs
// is that the kernel looks into every place of its table, whatever it is asked for. But
// it selects by protocol in one family only (EOPNOTSUPP; Linux 5.8 to 7.2), and all
// connections of a busy node are too many to read: hence both families only where those
// that nobody has answered are asked for, which are few.
func listings(networks []nftables.Network, all bool) (out []listing) {
	for _, n := range networks {
		if last := len(out) - 1; last >= 0 && out[last].Protocol == n.Protocol && n.Protocol == snapshot.TCP && !all {
			out[last].both = true
			continue
		}
		out = append(out, listing{Network: n})
	}
	return out
}

// settled returns those of listed that are stale in the newest Table as well.
// Without it, connections of a Table that came during the list would end.
func (s *sweeper) settled(listed []tracked, gone map[proxy.Key]bool) []tracked {
	newest := s.coming.Load()
	if newest == nil {
		return listed
	}
	out := listed[:0]
	for _, c := range listed {
		if c.Stale(newest, gone) {
			out = append(out, c)
		}
	}
	return out
}

// agenda is what a sweeper has to do, and when.
type agenda struct {
	table   *proxy.Table // nil before the first order
	gone    map[proxy.Key]bool
	due     map[nftables.Network]time.Time
	earned  map[nftables.Network]time.Time // when the time of all sweeps until now is over, dialsEvery for each
	fronts  map[nftables.Network]int       // how many Frontends the Table has of each
	lost    map[netip.AddrPort]lost        // TCP endpoints on nodes that are lost: their connections end although they were answered
	leaves  bool                           // endpoints left Services whose connections then end
	rested  time.Time                      // no sweep before
	failing bool                           // the last sweep failed, which was logged
}

// lost is how many Frontends say that an endpoint is on a node that is lost, and since
// when.
type lost struct {
	frontends int
	since     time.Time
}

func newAgenda() agenda {
	return agenda{gone: map[proxy.Key]bool{}, due: map[nftables.Network]time.Time{}, earned: map[nftables.Network]time.Time{}, fronts: map[nftables.Network]int{}, lost: map[netip.AddrPort]lost{}}
}

// take adds an order at time now.
func (a *agenda) take(o order, now time.Time) {
	concerned := map[nftables.Network]bool{} // whether it is urgent
	a.leaves = a.leaves || o.leaves
	if a.table != nil {
		concerned = nftables.Concerned(a.table, o.table)
	} else {
		// An agent that was killed may have left connections that nothing remembers.
		for _, n := range nftables.Networks {
			concerned[n] = true
		}
		a.table = &proxy.Table{}
	}
	a.count(o.table)
	a.lose(o.table, now)
	for _, k := range o.gone {
		n := nftables.NetworkOf(k)
		a.gone[k] = true
		if !concerned[n] {
			concerned[n] = false // concerned, and not urgent
		}
	}
	a.table = o.table
	if o.leaves {
		for _, f := range nftables.Families {
			a.due[nftables.Network{Protocol: snapshot.TCP, Family: f.ID}] = now
		}
	}
	for n, urgent := range concerned {
		at := now
		if n.Protocol == snapshot.TCP {
			at = now.Add(dialsAfter)
			// Each list costs 6 ms of CPU time: where endpoints go all the time, most changes wait for a common one.
			if rested := a.earned[n].Add(-dialsAtOnce * dialsEvery); rested.After(at) && !urgent {
				at = rested
			}
		}
		if due, ok := a.due[n]; !ok || at.Before(due) {
			a.due[n] = at
		}
	}
}

// count counts the Frontends of next, the Table that follows.
func (a *agenda) count(next *proxy.Table) {
	for was, is := range next.Changed(a.table) {
		if is != nil {
			a.fronts[nftables.NetworkOf(is.Key)]++
		}
		if was != nil {
			a.fronts[nftables.NetworkOf(was.Key)]--
		}
	}
}

// lose notes which endpoints of next, the Table that follows, are on nodes that are
// lost, at time now.
func (a *agenda) lose(next *proxy.Table, now time.Time) {
	var back []netip.AddrPort // after all others: an endpoint may pass from one Frontend to another
	for was, is := range next.Changed(a.table) {
		if is != nil && is.Protocol == snapshot.TCP {
			for _, ep := range is.Lost {
				l, known := a.lost[ep]
				if !known {
					l.since = now
				}
				l.frontends++
				a.lost[ep] = l
			}
		}
		if was != nil && was.Protocol == snapshot.TCP {
			back = append(back, was.Lost...)
		}
	}
	for _, ep := range back {
		l := a.lost[ep]
		if l.frontends--; l.frontends == 0 {
			delete(a.lost, ep)
		} else {
			a.lost[ep] = l
		}
	}
}

// lostSince returns since when ep is lost. Frontends with ranges of ports say so of all
// ports of its address at once.
func (a *agenda) lostSince(ep netip.AddrPort) time.Time {
	if l, known := a.lost[ep]; known {
		return l.since
	}
	return a.lost[netip.AddrPortFrom(ep.Addr(), 0)].since
}

// lostLong reports whether the connections of some endpoint end at time now although
// it has answered.
func (a *agenda) lostLong(now time.Time) bool {
	for _, l := range a.lost {
		if now.Sub(l.since) >= lostFor {
			return true
		}
	}
	return false
}

// ripe returns when the next endpoint has been lost for lostFor, after time now; zero
// if none will.
func (a *agenda) ripe(now time.Time) (next time.Time) {
	for _, l := range a.lost {
		if at := l.since.Add(lostFor); at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// wait returns how long there is nothing to do at time now.
func (a *agenda) wait(now time.Time) time.Duration {
	next := now.Add(sweepEvery)
	for _, at := range a.due {
		if at.Before(next) {
			next = at
		}
	}
	rested := a.rested
	if a.leaves {
		rested = rested.Add(-3 * maxRest / 4) // somebody waits for a reset
	}
	if next.Before(rested) {
		next = rested
	}
	return max(0, next.Sub(now))
}

// now returns the Networks that are due.
func (a *agenda) now(now time.Time) []nftables.Network {
	var out []nftables.Network
	for _, n := range nftables.Networks {
		if at, ok := a.due[n]; ok && !now.Before(at) {
			out = append(out, n)
		}
	}
	return out
}

// did notes a sweep of networks.
func (a *agenda) did(networks []nftables.Network, began, now time.Time, err error) {
	a.failing = err != nil
	a.rested = now.Add(min(resting*now.Sub(began), maxRest))
	for _, n := range networks {
		if err != nil {
			a.due[n] = now.Add(sweepRetry)
			continue
		}
		if a.earned[n].Before(now) {
			a.earned[n] = now
		}
		a.earned[n] = a.earned[n].Add(dialsEvery)
		a.leaves = a.leaves && n.Protocol != snapshot.TCP
		a.due[n] = now.Add(max(sweepEvery, sparing*now.Sub(began)))
		if a.fronts[n] == 0 {
			delete(a.due, n) // a list takes milliseconds, and hardly any cluster has SCTP
		}
		if ripe := a.ripe(began); n.Protocol == snapshot.TCP && !ripe.IsZero() {
			a.due[n] = ripe
		}
		for k := range a.gone {
			if nftables.NetworkOf(k) == n {
				delete(a.gone, k)
			}
		}
	}
}
