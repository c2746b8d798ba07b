package forwarding

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// prober opens connections from the client, one after the other, to each of some
// addresses in turn.
type prober struct {
	world *world
	every time.Duration
	to    []netip.AddrPort

	cancel context.CancelFunc
	done   sync.WaitGroup
	took   []time.Duration // of those that were made
	failed []error
}

// probe starts a prober.
func (w *world) probe(ctx context.Context, every time.Duration, to ...netip.AddrPort) *prober {
	p := &prober{world: w, every: every, to: to}
	ctx, p.cancel = context.WithCancel(ctx)
	p.done.Go(func() { p.run(ctx) })
	return p
}

func (p *prober) run(ctx context.Context) {
	ticker := time.NewTicker(p.every)
	defer ticker.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		to, began := p.to[i%len(p.to)], time.Now()
		err := p.world.client.do(func() error { return accepts(to, 5*time.Second) })
		if err != nil {
			p.failed = append(p.failed, fmt.Errorf("%s at %s: %w", to, began.Format(time.StampMilli), err))
		} else {
			p.took = append(p.took, time.Since(began))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

// probed is what came of a prober.
type probed struct {
	made         int
	p99, longest time.Duration
	failed       []error
}

func (p *prober) stop() probed {
	p.cancel()
	p.done.Wait()
	slices.Sort(p.took)
	return probed{made: len(p.took), p99: at(p.took, 99), longest: at(p.took, 100), failed: p.failed}
}
