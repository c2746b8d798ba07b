package agent

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/bgp"
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

// blocked holds what it is told once open says so. It stands in for layer 2 and for the
// routers.
type blocked struct{ entered, open chan struct{} }

func (*blocked) Adopt() ([]announcer.Claim, error) { return nil, nil }
func (*blocked) Withdraw([]announcer.Claim) error  { return nil }
func (b *blocked) Sync(s announcer.Set) ([]announcer.Claim, error) {
	b.entered <- struct{}{}
	<-b.open
	return s.Claims, nil
}

// carrier is who carries out orders: layer2 or routes.
type carrier interface {
	Through() uint64
	step(ctx context.Context) error
}

// While what is announced is renewed, which may take long, the engine waits only for a
// Plan that withdraws something, and for those after it.
func TestEngineWaitsForWithdrawalsAlone(t *testing.T) {
	b := &blocked{make(chan struct{}), make(chan struct{})}
	l := newLayer2(b, slog.New(slog.DiscardHandler), func() {}, func() {})
	r := newRoutes(&Config{Log: slog.New(slog.DiscardHandler)}, func() {}, func() {}, func() {}, func() bool { return false })
	r.unheld.withoutKernel()
	r.syncer = blockedRouter{b}
	var plan node.Plan
	plan.Announce.Layer2, plan.Announce.Routes = &announcer.Set{}, bgp.Plan{Peers: []bgp.Peer{{}}}
	withdraws := plan
	withdraws.Withdraw = node.Withdrawal{Claims: []announcer.Claim{{Link: "eth0"}}, Routes: &bgp.Plan{}}
	for name, c := range map[string]struct {
		carrier
		give func(uint64, node.Plan)
	}{
		"layer 2": {l, func(n uint64, p node.Plan) { l.Give(n, p, nil) }},
		"BGP":     {r, r.Give},
	} {
		through := func(what string, want uint64) {
			t.Helper()
			if got := c.Through(); got != want {
				t.Errorf("%s: %s: withdrawals are done to %d, want %d", name, what, got, want)
			}
		}
		done := make(chan error)
		step := func() { done <- c.step(t.Context()) }
		c.give(1, plan)
		go step()
		<-b.entered
		c.give(2, plan)
		through("nothing is withdrawn", 2)
		c.give(3, withdraws)
		through("something is withdrawn", 2)
		c.give(4, plan)
		through("after that nothing", 2)
		b.open <- struct{}{}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		through("what was under way has ended", 2)
		go step()
		for ended := false; !ended; {
			select {
			case <-b.entered:
				b.open <- struct{}{}
			case err := <-done:
				if ended = true; err != nil {
					t.Fatal(err)
				}
			}
		}
		through("it was withdrawn", 4)
	}
}

type blockedRouter struct{ *blocked }

func (b blockedRouter) Sync(bgp.Plan) { _, _ = b.blocked.Sync(announcer.Set{}) }
