package agent

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// askEvery is how long an answer of the other proxy's /healthz is good for.
const askEvery = time.Second

// beside is what an agent keeps of a proxy that forwards instead of it. The
// agent's loop alone uses it.
type beside struct {
	client  http.Client
	last    answer
	asked   time.Time
	message string // what was said last
	cleaned bool   // nothing of ours is left in the kernel
}

// ask asks the other proxy how it is.
func (b *beside) ask(ctx context.Context, url string) answer {
	if time.Since(b.asked) < askEvery {
		return b.last
	}
	b.last, b.asked = answer{}, time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		b.last.err = err
		return b.last
	}
	resp, err := b.client.Do(req)
	if err != nil {
		b.last.err = err
		return b.last
	}
	b.last.code = resp.StatusCode
	_ = resp.Body.Close()
	return b.last
}

// leave takes the place of program where another proxy forwards: every VIP that
// has a record is ready once that proxy is, and only then goes what an earlier
// agent of ours left in the kernel.
func (a *Agent) leave(ctx context.Context, s *snapshot.Snapshot) (state, error) {
	ready, message := a.beside.ask(ctx, a.OtherHealth).verdict(a.proxy)
	if message != a.beside.message {
		a.beside.message = message
		a.Log.Info("the proxy that forwards instead of us", "proxy", a.proxy, "ready", ready, "message", message)
	}
	now := state{inSync: ready, message: message, ready: map[netip.Addr]bool{}}
	if !ready {
		return now, nil
	}
	for _, addr := range s.Addresses {
		now.ready[addr.Addr] = true
	}
	if !a.beside.cleaned {
		if err := a.Dataplane.Cleanup(ctx); err != nil {
			return now, fmt.Errorf("take our tables out: %w", err)
		}
		a.beside.cleaned = true
	}
	return now, nil
}
