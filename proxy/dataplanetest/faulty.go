package dataplanetest

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/fairlead/fairlead/proxy"
)

// ErrInjected is what Faulty fails with.
var ErrInjected = errors.New("injected fault")

// Faulty is a Dataplane where one Sync in ten fails without effect.
type Faulty struct {
	proxy.Dataplane
	Rand *rand.Rand
}

// Sync implements proxy.Dataplane. Half of its faults come as a context that
// is cancelled before the inner Dataplane looks at it.
func (f *Faulty) Sync(ctx context.Context, t *proxy.Table) (proxy.Change, error) {
	switch {
	case f.Rand.IntN(10) > 0:
		return f.Dataplane.Sync(ctx, t)
	case f.Rand.IntN(2) == 0:
		return proxy.Change{}, ErrInjected
	}
	cancelled, cancel := context.WithCancelCause(ctx)
	cancel(ErrInjected)
	return f.Dataplane.Sync(cancelled, t)
}
