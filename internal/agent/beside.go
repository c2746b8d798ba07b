package agent

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// askEvery is how long an answer of the other proxy's /healthz is good for.
const askEvery = time.Second

// otherProxy is what an agent keeps of a proxy that forwards instead of it. The
// engine's loop alone uses it.
type otherProxy struct {
	client  http.Client
	last    answer
	asked   time.Time
	message string // what was said last
	unable  bool   // this kernel can hold nothing of ours
}

// ask asks the other proxy how it is.
func (b *otherProxy) ask(ctx context.Context, url string) answer {
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

// leave takes the place of program where another proxy forwards. The engine then holds
// a guard: other proxies say nothing about the ports of a VIP that no Service has.
// Once the other proxy is in order, the guard replaces what an earlier agent of ours
// left in the kernel, and not before.
func (e *engine) leave(ctx context.Context, order engineOrder) error {
	ready, message := e.other.ask(ctx, e.cfg.OtherHealth).verdict(e.proxy)
	if message != e.other.message {
		e.other.message = message
		e.cfg.Log.Info("the proxy that forwards instead of us", "proxy", e.proxy, "ready", ready, "message", message)
	}
	e.keep(engineState{Engine: node.Engine{Known: true, InSync: ready, Other: true}, message: message})
	if ready && !e.other.unable {
		change, err := e.cfg.Dataplane.Sync(ctx, e.compile(order).Guarded())
		e.metrics.synced(change, err)
		if err != nil {
			return fmt.Errorf("guard the ports of VIPs: %w", err)
		}
	}
	at := time.Now()
	e.health.Synced(snapshot.IPv4, at, at)
	e.health.Synced(snapshot.IPv6, at, at)
	return nil
}
