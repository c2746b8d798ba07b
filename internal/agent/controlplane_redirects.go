package agent

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/controlplane/redirect"
	"github.com/fairlead/fairlead/internal/reconcile"
)

// redirects keeps the kernel's redirects current, in a loop of its own.
type redirects struct {
	kernel redirector
	loop   *reconcile.Loop
	moved  func() // called when Held returns something else

	mu    sync.Mutex
	want  []redirect.Redirect
	known bool // want was given: until then what an earlier process left stays
	held  map[netip.Addr]bool
}

// redirector is what redirects acts on: *redirect.Redirects.
type redirector interface {
	Sync(want []redirect.Redirect) error
}

func newRedirects(kernel redirector, log *slog.Logger, moved func()) *redirects {
	r := &redirects{kernel: kernel, loop: reconcile.New("redirects", log), moved: moved, held: map[netip.Addr]bool{}}
	r.loop.Coalesce, r.loop.Resync = 0, announcer.Renew
	return r
}

// Give makes want the addresses to redirect.
func (r *redirects) Give(want []redirect.Redirect) {
	r.mu.Lock()
	same := r.known && slices.Equal(r.want, want)
	r.want, r.known = want, true
	r.mu.Unlock()
	if !same {
		r.loop.Wake()
	}
}

// Held returns the addresses that the kernel redirects. The caller must not change it.
func (r *redirects) Held() map[netip.Addr]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held
}

// Run renews the redirects until ctx ends and leaves them.
func (r *redirects) Run(ctx context.Context) { r.loop.Run(ctx, r.step) }

func (r *redirects) step(context.Context) error {
	r.mu.Lock()
	want, known := r.want, r.known
	r.mu.Unlock()
	if !known {
		return nil
	}
	if err := r.kernel.Sync(want); err != nil {
		return err
	}
	if r.note(want) {
		r.moved()
	}
	return nil
}

// note takes in that the kernel holds want, and reports whether Held returns something else now.
func (r *redirects) note(want []redirect.Redirect) (news bool) {
	held := map[netip.Addr]bool{}
	for _, w := range want {
		held[w.VIP.Addr()] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	news = !maps.Equal(held, r.held)
	r.held = held
	return news
}
