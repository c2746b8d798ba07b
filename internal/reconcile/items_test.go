package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestItems runs a step every 20 ms and notes when each item was tried.
func TestItems(t *testing.T) {
	no := func(context.Context) error { return errors.New("no") }
	hang := func(context.Context) error { time.Sleep(time.Hour); return nil }
	for _, tc := range []struct {
		name    string
		works   []Work
		version func(time.Duration) string
		during  time.Duration
		want    []time.Duration // of the first work
	}{
		{"an error is retried with growing pauses", []Work{{Key: "a", Do: no}}, nil, 800 * time.Millisecond, ms(0, 60, 160, 360, 760)},
		{"a change is tried after MinRetry", []Work{{Key: "a", Do: no}}, func(at time.Duration) string {
			return (at / (200 * time.Millisecond)).String()
		}, 500 * time.Millisecond, ms(0, 60, 160, 220, 400)},
		{"others do not wait for what fails", []Work{{Key: "a", Do: func(context.Context) error { return nil }}, {Key: "b", Do: no}}, nil, 70 * time.Millisecond, ms(0, 20, 40, 60)},
		{"nor for what hangs", []Work{{Key: "a", Do: func(context.Context) error { return nil }}, {Key: "b", Do: hang}}, nil, 150 * time.Millisecond, ms(0, 70, 90, 110, 130)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := NewItems(slog.New(slog.DiscardHandler), nil)
				began := time.Now()
				var got []time.Duration
				do := tc.works[0].Do
				tc.works[0].Do = func(ctx context.Context) error {
					got = append(got, time.Since(began))
					return do(ctx)
				}
				for time.Since(began) < tc.during {
					if tc.version != nil {
						tc.works[0].Version = tc.version(time.Since(began))
					}
					s.Run(t.Context(), tc.works)
					time.Sleep(20 * time.Millisecond)
				}
				s.Wait()
				equal(t, got, tc.want...)
			})
		})
	}
}

func ms(list ...int) (out []time.Duration) {
	for _, n := range list {
		out = append(out, time.Duration(n)*time.Millisecond)
	}
	return out
}

// TestItemsHang: works that hang take nobody's place, and wake the loop when they end.
func TestItemsHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var woken atomic.Int32
		s := NewItems(slog.New(slog.DiscardHandler), func() { woken.Add(1) })
		s.Parallel = 2
		var works []Work
		for _, key := range []string{"a", "b", "c"} {
			works = append(works, Work{Key: key, Do: func(context.Context) error { time.Sleep(time.Minute); return nil }})
		}
		done := time.Duration(-1)
		began := time.Now()
		works = append(works, Work{Key: "d", Do: func(context.Context) error { done = time.Since(began); return nil }})
		s.Run(t.Context(), works)
		if done != s.Patience {
			t.Errorf("the last one was done after %s, want %s", done, s.Patience)
		}
		if took := time.Since(began); took != 2*s.Patience {
			t.Errorf("Run took %s, want %s", took, 2*s.Patience)
		}
		s.Wait()
		if woken.Load() != 3 {
			t.Errorf("woken %d times, want 3", woken.Load())
		}
	})
}

// TestItemsNext: Next is when an item is due, and nobody is waited for who does not
// come again.
func TestItemsNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewItems(slog.New(slog.DiscardHandler), nil)
		s.Run(t.Context(), []Work{{Key: "a", Do: func(context.Context) error { return errors.New("no") }}})
		if in := time.Until(s.Next()); in != s.MinRetry {
			t.Errorf("due in %s, want %s", in, s.MinRetry)
		}
		time.Sleep(s.MinRetry)
		if at := s.Next(); !at.IsZero() || len(s.items) > 0 {
			t.Errorf("an item that is overdue is still waited for: %s, %v", at, s.items)
		}
	})
}
