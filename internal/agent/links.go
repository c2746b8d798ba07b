package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/reconcile"
)

// links is the node's links as they were last read.
type links struct {
	log     *slog.Logger
	changed func()

	mu    sync.Mutex
	state link.State
}

// State returns the links.
func (l *links) State() link.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

func (l *links) read() error {
	st, err := link.Read()
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = st
	return nil
}

// Run keeps State current until ctx ends.
func (l *links) Run(ctx context.Context) {
	again := reconcile.New("links", l.log)
	again.Resync = time.Minute
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := link.Watch(ctx, again.Wake); err != nil {
				l.log.Warn("link events were lost; the links are read again", "error", err)
				pause(ctx, lossPause)
			}
		}
	})
	usual := again.Coalesce
	again.Run(ctx, func(context.Context) error {
		began := time.Now()
		if err := l.read(); err != nil {
			return err
		}
		again.Coalesce = rest(usual, time.Since(began))
		l.changed()
		return nil
	})
}

// lossPause is how long the kernel is not listened to after events were lost. Whoever
// causes more of them than can be read does so for a while.
const lossPause = 100 * time.Millisecond

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// rest is how long to wait for further events before the links are read again, if that
// took so long the last time. Between routers a node may have a million routes, which
// change all the time: reading them takes a tenth of one CPU at most.
func rest(usual, took time.Duration) time.Duration {
	const quick, most = 10 * time.Millisecond, 10 * time.Second
	if took <= quick {
		return usual
	}
	return min(9*took, most)
}
