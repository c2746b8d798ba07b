package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// stamps runs l with step for a while and returns when steps began.
func stamps(t *testing.T, l *Loop, during time.Duration, step func(n int) error, wakes ...time.Duration) []time.Duration {
	t.Helper()
	start := time.Now()
	var out []time.Duration
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	for _, w := range wakes {
		time.AfterFunc(w, l.Wake)
	}
	l.Run(ctx, func(context.Context) error {
		out = append(out, time.Since(start))
		return step(len(out))
	})
	return out
}

func equal(t *testing.T, got []time.Duration, want ...time.Duration) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("steps at %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("steps at %v, want %v", got, want)
		}
	}
}

func newLoop() *Loop {
	l := New("test", slog.New(slog.DiscardHandler))
	l.Coalesce, l.Resync, l.MinRetry, l.MaxRetry = 10*time.Millisecond, time.Second, 100*time.Millisecond, 300*time.Millisecond
	return l
}

func fine(int) error { return nil }

func TestResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		equal(t, stamps(t, newLoop(), 2500*time.Millisecond, fine), 0, time.Second, 2*time.Second)
	})
}

func TestWakesAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := stamps(t, newLoop(), 500*time.Millisecond, fine,
			100*time.Millisecond, 103*time.Millisecond, 109*time.Millisecond, 200*time.Millisecond)
		equal(t, got, 0, 110*time.Millisecond, 210*time.Millisecond)
	})
}

// A wake during a step is not lost.
func TestWakeDuringStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(n int) error {
			if n == 1 {
				time.Sleep(50 * time.Millisecond)
			}
			return nil
		}
		got := stamps(t, newLoop(), 500*time.Millisecond, slow, 20*time.Millisecond)
		equal(t, got, 0, 60*time.Millisecond)
	})
}

func TestErrorsAreRetriedWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing := func(n int) error {
			if n <= 4 {
				return errors.New("no")
			}
			return nil
		}
		got := stamps(t, newLoop(), 1500*time.Millisecond, failing)
		equal(t, got, 0, 100*time.Millisecond, 300*time.Millisecond, 600*time.Millisecond, 900*time.Millisecond)
	})
}

// A step that fails is tried again as soon as something wakes the loop: it may be
// the remedy, or about something else. Between two steps there is MinRetry at
// least, and a wake does not make the next pause longer.
func TestWakeDuringPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing := func(n int) error { return errors.New("no") }
		got := stamps(t, newLoop(), 700*time.Millisecond, failing, 150*time.Millisecond, 215*time.Millisecond, 220*time.Millisecond)
		equal(t, got, 0, 100*time.Millisecond, 210*time.Millisecond, 320*time.Millisecond, 520*time.Millisecond)
	})
}

// A step can ask for the time of the next; it does so each time.
func TestAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop()
		got := stamps(t, l, 2300*time.Millisecond, func(n int) error {
			if n == 1 {
				l.At(time.Now().Add(300 * time.Millisecond))
				l.At(time.Now().Add(200 * time.Millisecond))
				l.At(time.Time{})
			}
			return nil
		})
		equal(t, got, 0, 200*time.Millisecond, 1200*time.Millisecond, 2200*time.Millisecond)
	})
}
