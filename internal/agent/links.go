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

// lossPause is how long the kernel is not listened to after events were lost. What causes
// more of them than can be read often does so for a while.
const lossPause = 100 * time.Millisecond

// mostRest is the longest rest between two readings: a link that is lost has to be
// noticed.
const mostRest = time.Second

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
				again.Wake() // the kernel may not let us listen at all
			}
		}
	})
	var next time.Time
	again.Run(ctx, func(ctx context.Context) error {
		// The routes of routers can be many and change all the time. Up to 10,000 of them,
		// reading takes a tenth of one CPU at most.
		pause(ctx, time.Until(next))
		began := time.Now()
		err := l.read()
		next = time.Now().Add(min(9*time.Since(began), mostRest))
		if err != nil {
			return err
		}
		l.changed()
		return nil
	})
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
