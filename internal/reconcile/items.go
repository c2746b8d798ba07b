package reconcile

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Work is what to do for one item.
type Work struct {
	// Key names the item, in logs too. Of two works with one key, only one runs.
	Key string
	// Version of what the work is about. A work that failed waits MinRetry only, if
	// its item has changed since.
	Version string
	Do      func(context.Context) error
}

// Items does works that may fail or take long, so that none of them delays another:
// each item has a back-off of its own, and nobody waits for a work that hangs. It is
// safe for concurrent use. Fill the exported fields before Run.
type Items struct {
	Log      *slog.Logger
	Wake     func() // called when a work ends that Run has not waited for
	Parallel int    // works at once
	// Patience is how long Run waits while no work ends. What is under way after that
	// continues by itself.
	Patience time.Duration
	MinRetry time.Duration // the pause after the first error, doubled to MaxRetry
	MaxRetry time.Duration

	mu    sync.Mutex
	items map[string]*item
	under sync.WaitGroup // way
}

// item is one that failed, or whose work is under way.
type item struct {
	busy     bool
	failures int
	version  string
	failed   time.Time // when it failed last
	said     string    // the error that was logged last
}

// NewItems makes Items with the usual times. wake may be nil.
func NewItems(log *slog.Logger, wake func()) *Items {
	return &Items{
		Log: log, Wake: wake, Parallel: 32, Patience: 50 * time.Millisecond,
		MinRetry: 50 * time.Millisecond, MaxRetry: 10 * time.Second, items: map[string]*item{},
	}
}

// Run does the works that are due, some at once, and returns when all have ended, or
// when none has ended for Patience. It logs their errors.
func (s *Items) Run(ctx context.Context, works []Work) {
	ended := make(chan struct{}, len(works))
	timer := time.NewTimer(s.Patience)
	defer timer.Stop()
	running := 0
	for next := 0; next < len(works) || running > 0; {
		if next < len(works) && running < max(s.Parallel, 1) {
			if s.start(ctx, works[next], ended) {
				running++
			}
			next++
			continue
		}
		select {
		case <-ended:
			running = max(running-1, 0)
			timer.Reset(s.Patience)
		case <-timer.C:
			running = 0 // those that hang take nobody's place
			timer.Reset(s.Patience)
		}
	}
}

// start begins w, unless its item is busy or not due, and reports whether it did. It sends to
// ended when w ends.
func (s *Items) start(ctx context.Context, w Work, ended chan<- struct{}) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	it := s.items[w.Key]
	if it == nil {
		it = &item{}
		s.items[w.Key] = it
	}
	if it.busy || time.Now().Before(s.due(it, w.Version)) {
		return false
	}
	it.busy = true
	began := time.Now()
	s.under.Go(func() {
		err := w.Do(ctx)
		s.end(ctx, w, it, err)
		ended <- struct{}{}
		if s.Wake != nil && time.Since(began) > s.Patience {
			s.Wake()
		}
	})
	return true
}

// due is when an item may be tried again.
func (s *Items) due(it *item, version string) time.Time {
	switch {
	case it.failures == 0:
		return time.Time{}
	case it.version != version:
		return it.failed.Add(s.MinRetry)
	}
	return it.failed.Add(min(s.MinRetry<<min(it.failures-1, 16), s.MaxRetry))
}

func (s *Items) end(ctx context.Context, w Work, it *item, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil || ctx.Err() != nil {
		delete(s.items, w.Key)
		return
	}
	it.busy, it.failed, it.version = false, time.Now(), w.Version
	it.failures++
	if text := err.Error(); text != it.said {
		it.said = text
		s.Log.Error("could not", "item", w.Key, "error", err, "retry", time.Until(s.due(it, w.Version)).Round(time.Millisecond))
	}
}

// Next is when the first of the items that failed may be tried again; zero if there
// is none. It forgets the items that are overdue: nobody asks for them any more.
func (s *Items) Next() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	var next time.Time
	now := time.Now()
	for key, it := range s.items {
		at := s.due(it, it.version)
		switch {
		case it.busy:
		case !at.After(now):
			delete(s.items, key)
		case next.IsZero() || at.Before(next):
			next = at
		}
	}
	return next
}

// Wait returns when every work has ended.
func (s *Items) Wait() { s.under.Wait() }
