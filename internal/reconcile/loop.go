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
	at       time.Time // of the step that At asked for; zero: none
	said     string    // the error that was logged last
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

// At asks for a step at t, or before. The step itself calls it, each time; the
// zero t asks for none.
func (l *Loop) At(t time.Time) {
	if !t.IsZero() && (l.at.IsZero() || t.Before(l.at)) {
		l.at = t
	}
}

// Run calls step until ctx ends, the first time at once.
func (l *Loop) Run(ctx context.Context, step func(context.Context) error) {
	failures, woken := 0, false
	for ctx.Err() == nil {
		l.at = time.Time{}
		err := step(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			failures, l.said = 0, ""
			l.wait(ctx, l.limit(l.Resync))
			continue
		}
		pause := l.pause(failures)
		if text := err.Error(); text != l.said || !woken { // a busy loop says the same thing once
			l.said = text
			l.Log.Error("step failed", "loop", l.Name, "error", err, "retry", pause)
		}
		// A step that fails must not make the loop deaf: what wakes it may be about
		// something else, or be the remedy. It only leaves MinRetry between two steps,
		// and wakes do not make the next pause longer.
		l.sleep(ctx, l.MinRetry)
		woken = pause > l.MinRetry && l.wait(ctx, l.limit(pause-l.MinRetry))
		if !woken {
			failures++
		}
	}
}

// pause is how long to wait after one more than failures errors in a row.
func (l *Loop) pause(failures int) time.Duration {
	if failures > 16 {
		return l.MaxRetry
	}
	return min(l.MinRetry<<failures, l.MaxRetry)
}

// limit is how long to wait at most: usual, or until what At asked for. 0: for
// ever.
func (l *Loop) limit(usual time.Duration) time.Duration {
	if l.at.IsZero() {
		return usual
	}
	left := max(time.Nanosecond, time.Until(l.at))
	if usual > 0 {
		left = min(left, usual)
	}
	return left
}

// wait returns Coalesce after a wake, or after limit, or when ctx ends. It
// reports whether there was a wake.
func (l *Loop) wait(ctx context.Context, limit time.Duration) (woken bool) {
	var resync <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		resync = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-resync:
		return false
	case <-l.wake:
		l.sleep(ctx, l.Coalesce)
	}
	select {
	case <-l.wake:
	default:
	}
	return true
}

func (l *Loop) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
