package lab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Until asks check again and again until it has no objection. The error after
// limit names what was waited for and the last objection.
func Until(ctx context.Context, limit time.Duration, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("waited %s", limit))
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	var objection error
	for {
		now := check(ctx)
		if now == nil {
			return nil
		}
		if objection == nil || ctx.Err() == nil { // a check that is cut off does not know
			objection = now
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", what, context.Cause(ctx), objection)
		}
	}
}

// together runs all tasks at once; the first failure cancels the others.
func together(ctx context.Context, tasks ...func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	errs := make([]error, len(tasks))
	var wg sync.WaitGroup
	for i, task := range tasks {
		wg.Go(func() {
			if errs[i] = task(ctx); errs[i] != nil {
				cancel(errs[i])
			}
		})
	}
	wg.Wait()
	first := context.Cause(ctx)
	for i, err := range errs {
		if errors.Is(err, context.Canceled) && first != nil && !errors.Is(first, context.Canceled) {
			errs[i] = nil // a consequence of the first
		}
	}
	return errors.Join(errs...)
}
