package agent

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// lingers is for how long packets to a prefix are refused that is announced no longer:
// routers send some until they have all heard of it.
const lingers = time.Minute

// unheld has the node refuse packets to what it announces over BGP and does not hold: an
// address of an aggregate, or a VIP that was just withdrawn.
type unheld struct {
	log     *slog.Logger
	loop    *reconcile.Loop
	refuse  func(prefixes, was []netip.Prefix) error // link.Refuse
	refused func() ([]netip.Prefix, error)           // link.Refused

	mu        sync.Mutex
	shared    snapshot.Picked            // Services that other clusters have too
	began     bool                       // what an earlier agent left was read
	peers     []bgp.Peer                 // of the Plan that was set last
	anycast   map[netip.Prefix]bool      // of other clusters too: packets to these are routed on
	announced map[netip.Prefix]bool      // now
	until     map[netip.Prefix]time.Time // of those that linger
	was       []netip.Prefix             // as last carried out; nil: not known
}

func newUnheld(log *slog.Logger) *unheld {
	u := &unheld{log: log, loop: reconcile.New("unheld addresses", log), refuse: link.Refuse, refused: link.Refused, until: map[netip.Prefix]time.Time{}}
	u.shared.Pick = func(svc *snapshot.Service) bool { return svc.Anycast }
	u.loop.Resync = lingers / 2
	return u
}

// Run ends what lingers, and repairs what others have changed, until ctx ends. What is
// refused then stays, for the next agent.
func (u *unheld) Run(ctx context.Context) {
	u.loop.Run(ctx, func(context.Context) error {
		u.mu.Lock()
		defer u.mu.Unlock()
		// Not known, so that the kernel is asked, and what others took out is repaired.
		if len(u.was) > 0 {
			u.was = nil
		}
		return u.apply(time.Now())
	})
}

// routeOn makes the addresses of anycast Services of s those that are not refused once they
// are withdrawn: another cluster may serve them.
func (u *unheld) routeOn(s *snapshot.Snapshot) {
	u.mu.Lock()
	defer u.mu.Unlock()
	next := map[netip.Prefix]bool{}
	for _, svc := range u.shared.Of(s) {
		for _, in := range svc.Ingress {
			if in.IP.IsValid() {
				next[netip.PrefixFrom(in.IP, in.IP.BitLen())] = true
			}
		}
	}
	if !maps.Equal(u.anycast, next) {
		u.anycast, u.was = next, nil // set has to look again
	}
}

// set makes the prefixes of plan those that are announced. Call it before they are.
func (u *unheld) set(plan bgp.Plan, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.was != nil && u.announced != nil && diff.Same(u.peers, plan.Peers) {
		return // most Plans announce what the last one did
	}
	u.peers = plan.Peers
	next := map[netip.Prefix]bool{}
	for _, p := range plan.Peers {
		for _, path := range p.Paths {
			next[path.Prefix] = true
		}
	}
	for p := range u.announced {
		if !next[p] {
			u.until[p] = now.Add(lingers)
		}
	}
	u.announced = next
	if err := u.apply(now); err != nil {
		u.log.Warn("cannot stop packets to addresses that nobody holds from going around", "error", err)
	}
}

// end refuses nothing any more.
func (u *unheld) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.peers, u.announced = nil, nil
	clear(u.until)
	if err := u.apply(time.Now()); err != nil {
		u.log.Warn("BGP", "error", err)
	}
}

// apply carries out what is announced and lingers at now. The caller holds mu.
func (u *unheld) apply(now time.Time) error {
	// Routers may still send packets to what an earlier agent announced.
	if !u.began {
		left, err := u.refused()
		if err != nil {
			return err
		}
		for _, p := range left {
			u.until[p] = now.Add(lingers)
		}
		u.began, u.was = true, slices.Concat([]netip.Prefix{}, left)
	}
	maps.DeleteFunc(u.until, func(p netip.Prefix, end time.Time) bool { return u.announced[p] || u.anycast[p] || !now.Before(end) })
	want := slices.AppendSeq(slices.AppendSeq([]netip.Prefix{}, maps.Keys(u.until)), maps.Keys(u.announced))
	slices.SortFunc(want, netip.Prefix.Compare)
	if u.was != nil && slices.Equal(u.was, want) {
		return nil
	}
	if err := u.refuse(want, u.was); err != nil {
		// How far it came is not known: the next time the kernel is asked.
		u.was = nil
		return err
	}
	u.was = want
	return nil
}
