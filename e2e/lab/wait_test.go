package lab

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const waitLimit = 30 * time.Second

func TestUntilTellsWhatWasMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		missing := errors.New("no address yet")
		err := Until(t.Context(), time.Second, "address", func(context.Context) error { return missing })
		if !errors.Is(err, missing) || !strings.Contains(err.Error(), "wait for address: waited 1s") {
			t.Errorf("error = %v", err)
		}
	})
}

// A check that is cut off by the limit does not know what is missing: the one before did.
func TestUntilKeepsWhatWasMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		missing, first := errors.New("no address yet"), true
		err := Until(t.Context(), time.Second, "address", func(ctx context.Context) error {
			if first {
				first = false
				return missing
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if !errors.Is(err, missing) {
			t.Errorf("error = %v", err)
		}
	})
}

func TestUntilReturnsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if err := Until(t.Context(), time.Second, "nothing", func(context.Context) error { return nil }); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("took %s", took)
		}
	})
}

// Only the cause is reported, not the cancellations that follow from it.
func TestTogetherReportsTheCause(t *testing.T) {
	cause := errors.New("broken")
	waits := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	err := together(t.Context(), waits, func(context.Context) error { return cause }, waits)
	if !errors.Is(err, cause) || errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
}
