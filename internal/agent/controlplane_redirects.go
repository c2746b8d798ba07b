package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/controlplane/redirect"
	"github.com/fairlead/fairlead/internal/keyring"
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

// Give makes want what is to be redirected.
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
	held := map[netip.Addr]bool{}
	for _, w := range want {
		held[w.VIP.Addr()] = true
	}
	r.mu.Lock()
	news := len(held) != len(r.held)
	for addr := range held {
		news = news || !r.held[addr]
	}
	r.held = held
	r.mu.Unlock()
	if news {
		r.moved()
	}
	return nil
}

// readKeys reads the keys of the gossip. It refuses a file that others than its owner may
// read: who has a key can say that nodes are dead.
func readKeys(file string) (keyring.Keys, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("--key-file: %w", err)
	}
	if open := info.Mode().Perm() & 0o077; open != 0 {
		return nil, fmt.Errorf("--key-file: %s has the mode %s; run chmod 600 on it", file, info.Mode().Perm())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--key-file: %w", err)
	}
	keys, err := keyring.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("--key-file: %s: %w", file, err)
	}
	return keys, nil
}
