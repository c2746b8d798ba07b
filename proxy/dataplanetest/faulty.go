package dataplanetest

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/fairlead/fairlead/proxy"
)

// ErrInjected is what Faulty fails with.
var ErrInjected = errors.New("injected fault")

// Faulty is a Dataplane of which one call in ten fails without effect.
type Faulty struct {
	proxy.Dataplane
	Rand *rand.Rand
}

func (f *Faulty) fault() error {
	if f.Rand.IntN(10) == 0 {
		return ErrInjected
	}
	return nil
}

// Probe implements proxy.Dataplane.
func (f *Faulty) Probe(ctx context.Context) error {
	if err := f.fault(); err != nil {
		return err
	}
	return f.Dataplane.Probe(ctx)
}

// Sync implements proxy.Dataplane. Half of its faults come as a context that
// is cancelled before the inner Dataplane looks at it.
func (f *Faulty) Sync(ctx context.Context, t *proxy.Table) (proxy.Change, error) {
	if err := f.fault(); err != nil {
		if f.Rand.IntN(2) == 0 {
			return proxy.Change{}, err
		}
		cancelled, cancel := context.WithCancelCause(ctx)
		cancel(err)
		return f.Dataplane.Sync(cancelled, t)
	}
	return f.Dataplane.Sync(ctx, t)
}

// Dump implements proxy.Dataplane.
func (f *Faulty) Dump(ctx context.Context) (*proxy.Table, error) {
	if err := f.fault(); err != nil {
		return nil, err
	}
	return f.Dataplane.Dump(ctx)
}

// Cleanup implements proxy.Dataplane.
func (f *Faulty) Cleanup(ctx context.Context) error {
	if err := f.fault(); err != nil {
		return err
	}
	return f.Dataplane.Cleanup(ctx)
}
