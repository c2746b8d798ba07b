// Package reconcile is the only place that waits: a Loop runs one step at a
// time, after something woke it, at least every Resync, and again after an
// error with growing pauses. It is where errors are logged.
package reconcile

import (
	"context"
	"log/slog"
	"time"
)

// Loop runs a step. Fill the exported fields before Run.
type Loop struct {
	Name     string
	Log      *slog.Logger
	Coalesce time.Duration // what comes within it after a wake is one step
	Resync   time.Duration // the longest time between two steps; 0: none
	MinRetry time.Duration // the pause after the first error, doubled to MaxRetry
	MaxRetry time.Duration
	wake     chan struct{}
}

// New makes a Loop with the usual times.
func New(name string, log *slog.Logger) *Loop {
	return &Loop{
		Name: name, Log: log, wake: make(chan struct{}, 1),
		Coalesce: 5 * time.Millisecond, Resync: 5 * time.Second,
		MinRetry: 50 * time.Millisecond, MaxRetry: 10 * time.Second,
	}
}

// Wake asks for a step. It never blocks; wakes before the step starts are one.
func (l *Loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run calls step until ctx ends, the first time at once.
func (l *Loop) Run(ctx context.Context, step func(context.Context) error) {
	failures := 0
	for ctx.Err() == nil {
		err := step(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			failures = 0
			l.wait(ctx, l.Resync)
			continue
		}
		pause := l.pause(failures)
		failures++
		l.Log.Error("step failed", "loop", l.Name, "error", err, "retry", pause)
		l.sleep(ctx, pause)
	}
}

// pause is how long to wait after one more than failures errors in a row.
func (l *Loop) pause(failures int) time.Duration {
	if failures > 16 {
		return l.MaxRetry
	}
	return min(l.MinRetry<<failures, l.MaxRetry)
}

// wait returns Coalesce after a wake, or after limit, or when ctx ends.
func (l *Loop) wait(ctx context.Context, limit time.Duration) {
	var resync <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		resync = t.C
	}
	select {
	case <-ctx.Done():
		return
	case <-resync:
		return
	case <-l.wake:
		l.sleep(ctx, l.Coalesce)
	}
	select {
	case <-l.wake:
	default:
	}
}

func (l *Loop) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
