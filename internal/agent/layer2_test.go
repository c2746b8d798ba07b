package agent

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/node"
)

// renewals counts how often what is held is renewed.
type renewals struct{ n atomic.Int64 }

func (*renewals) Adopt() ([]announcer.Claim, error) { return nil, nil }
func (*renewals) Withdraw([]announcer.Claim) error  { return nil }
func (r *renewals) Sync(s announcer.Set) ([]announcer.Claim, error) {
	r.n.Add(1)
	return s.Claims, nil
}

// Addresses are renewed while a decision takes long, and no longer than the agent is
// alive by its probes.
func TestAddressesAreRenewedDuringALongDecision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &renewals{}
		l := newLayer2(r, slog.New(slog.DiscardHandler), func() {}, func() {})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.Run(ctx) }()
		var plan node.Plan
		plan.Announce.Layer2 = &announcer.Set{}
		l.Give(1, plan, nil)
		renewed := func(d time.Duration) int {
			was := r.n.Load()
			time.Sleep(d)
			synctest.Wait()
			return int(r.n.Load() - was)
		}
		if n := renewed(decideWithin); n < int(decideWithin/announcer.Renew) {
			t.Errorf("renewed %d times in %s without a decision", n, decideWithin)
		}
		if n := renewed(10 * announcer.Renew); n > 1 {
			t.Errorf("renewed %d times more", n)
		}
		l.Give(2, plan, nil)
		if n := renewed(time.Second); n != 1 {
			t.Errorf("the next decision renews %d times", n)
		}
		cancel()
		<-done
	})
}
