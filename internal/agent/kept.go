package agent

import (
	"context"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/reconcile"
)

// kept is what the kernel is to hold beside the engine. Its loop is apart from the others, so
// that none waits for the kernel.
type kept[W any] struct {
	loop *reconcile.Loop

	mu    sync.Mutex
	wants *W // nil: not known yet
}

func newKept[W any](name string, log *slog.Logger) *kept[W] {
	k := &kept[W]{loop: reconcile.New(name, log)}
	k.loop.Resync = 10 * time.Second // somebody may have taken the rules out
	return k
}

// want has the kernel hold w from now on.
func (k *kept[W]) want(w W) {
	k.mu.Lock()
	same := k.wants != nil && reflect.DeepEqual(*k.wants, w)
	k.wants = &w
	k.mu.Unlock()
	if !same {
		k.loop.Wake()
	}
}

// run gives what is wanted to sync until ctx ends, and leaves it there: a stop is a restart.
func (k *kept[W]) run(ctx context.Context, sync func(W) error) {
	k.loop.Run(ctx, func(context.Context) error {
		k.mu.Lock()
		wants := k.wants
		k.mu.Unlock()
		if wants == nil {
			return nil
		}
		return sync(*wants)
	})
}
