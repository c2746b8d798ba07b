package forwarding

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// load is a start on an empty node.
type load struct {
	wall    time.Duration // from the start of the process until the Services answer
	program time.Duration // of it, from knowing all Services until the kernel holds them
	cpu     time.Duration
}

// patience is how long anything may take.
const patience = 3 * time.Minute

// load starts a contender and waits until it serves everything.
func (b *Bench) load(ctx context.Context, c contender) (out load, p *process, err error) {
	if p, err = c.start(ctx, b.world, b.logs); err != nil {
		return out, nil, err
	}
	defer func() {
		if err != nil {
			p.stop()
		}
	}()
	err = until(ctx, 2*time.Millisecond, cmp.Or(b.patience, patience), c.name+" to serve", func() error {
		if err := p.ended(); err != nil {
			return fatal{err}
		}
		return b.serves()
	})
	if err != nil {
		return out, p, err
	}
	out.wall = time.Since(p.began)
	err = until(ctx, 20*time.Millisecond, patience, c.name+"'s metrics", func() error {
		took, ok, err := c.programmed(ctx, b.world)
		if err == nil && !ok {
			err = errors.New("it has not programmed yet")
		}
		out.program = took
		return err
	})
	if err == nil {
		out.cpu, err = p.cpu()
	}
	return out, p, err
}

// serves asks a sample of the Services, and the VIP and the node port.
func (b *Bench) serves() error {
	return b.world.client.do(func() error {
		for _, to := range append(b.cluster.sample(), b.cluster.outside...) {
			if err := accepts(to, 100*time.Millisecond); err != nil {
				return fmt.Errorf("%s: %w", to, err)
			}
		}
		_, err := answerOf(clusterIP(b.cluster.moving), 100*time.Millisecond)
		return err
	})
}

// changes are moves of one endpoint, one after the other.
type changes struct {
	took []time.Duration // from before the write to the API until the new endpoint answers; sorted
	cpu  time.Duration   // of each, on average, with all that the process does meanwhile
}

// pauses lie between two changes: longer than kube-proxy's shortest time between
// two syncs, so that none waits for another.
const pauses = 1200 * time.Millisecond

// changes moves the endpoint n times, fewer if that takes too long.
func (b *Bench) changes(ctx context.Context, p *process, n int) (out changes, err error) {
	pause(ctx, pauses) // what the start has left to do
	before, err := p.cpu()
	if err != nil {
		return out, err
	}
	for began := time.Now(); len(out.took) < n && (len(out.took) < 5 || time.Since(began) < time.Minute); {
		took, err := b.change(ctx)
		if err != nil {
			return out, err
		}
		out.took = append(out.took, took)
		pause(ctx, pauses)
	}
	after, err := p.cpu()
	out.cpu = (after - before) / time.Duration(len(out.took))
	slices.Sort(out.took)
	return out, err
}

func (b *Bench) change(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	want, err := b.cluster.move(ctx)
	if err != nil {
		return 0, err
	}
	err = b.world.client.do(func() error {
		return until(ctx, 2*time.Millisecond, patience, "the new endpoint", func() error {
			who, err := answerOf(clusterIP(b.cluster.moving), 50*time.Millisecond)
			if err == nil && who != want {
				err = fmt.Errorf("%s answers, not %s", who, want)
			}
			return err
		})
	})
	return time.Since(began), err
}

// rate is how fast connections are made.
type rate struct {
	perSecond float64
	p50, p99  time.Duration // of one, while as many as possible are made
	failed    int
}

// connectors make connections at the same time.
const connectors = 4

// tally is what came of making connections for a while.
type tally struct {
	took   []time.Duration
	failed int
	length time.Duration
}

// rate sums up.
func (t tally) rate() rate {
	slices.Sort(t.took)
	return rate{perSecond: float64(len(t.took)) / t.length.Seconds(), p50: at(t.took, 50), p99: at(t.took, 99), failed: t.failed}
}

func (t *tally) add(more tally) {
	t.took, t.failed, t.length = append(t.took, more.took...), t.failed+more.failed, t.length+more.length
}

// connect makes connections as fast as it goes.
func (b *Bench) connect(to netip.AddrPort, length time.Duration) (tally, error) {
	var mu sync.Mutex
	var out tally
	errs := make([]error, connectors)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range connectors {
		wg.Go(func() {
			var mine tally
			errs[i] = b.world.client.do(func() error {
				for time.Since(began) < length {
					start := time.Now()
					if err := accepts(to, 5*time.Second); err != nil {
						mine.failed++
						continue
					}
					mine.took = append(mine.took, time.Since(start))
				}
				return nil
			})
			mu.Lock()
			defer mu.Unlock()
			out.add(mine)
		})
	}
	wg.Wait()
	out.length = time.Since(began)
	return out, errors.Join(errs...)
}

// fatal ends an until.
type fatal struct{ error }

// lateError is an objection that check still had when the time was over.
type lateError struct{ error }

func (e *lateError) Unwrap() error { return e.error }

// until asks check until it has no objection, in the namespace that the caller
// is in. It returns a lateError if that takes longer than within.
func until(ctx context.Context, every, within time.Duration, what string, check func() error) error {
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return nil
		}
		if stop := (fatal{}); errors.As(err, &stop) || ctx.Err() != nil {
			return fmt.Errorf("wait for %s: %w", what, errors.Join(ctx.Err(), err))
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for %s: %w", what, &lateError{err})
		}
		nap := unix.NsecToTimespec(every.Nanoseconds())
		_ = unix.Nanosleep(&nap, nil) // the goroutine keeps its thread: a timer would wake another first
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// at is the smallest value that at least p percent of the sorted values do not
// exceed; zero if there are none.
func at[T any](sorted []T, p int) (v T) {
	if len(sorted) == 0 {
		return v
	}
	return sorted[max((len(sorted)*p+99)/100, 1)-1]
}
