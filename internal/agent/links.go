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
			}
			again.Wake()
		}
	})
	again.Run(ctx, func(context.Context) error {
		if err := l.read(); err != nil {
			return err
		}
		l.changed()
		return nil
	})
}
