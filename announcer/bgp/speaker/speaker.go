// Package speaker holds the BGP sessions that package bgp decides on, and is
// the only one that knows gobgp. Every peer has a gobgp server of its own, with
// a table that holds what this peer is to hear and nothing else: what happens
// to one session touches no other.
//
// Sessions are dialled, never listened for. What a peer announces is ignored,
// and a peer that announces more than a bounded number of prefixes is cut off.
package speaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead/fairlead/announcer/bfd"
	"github.com/fairlead/fairlead/announcer/bfd/udp"
	"github.com/fairlead/fairlead/announcer/bgp"
)

// Status is the state of one session.
type Status struct {
	Name        string
	Addr        netip.Addr
	Established bool
	State       string    // as RFC 4271 section 8.2.2 spells it
	Since       time.Time // of Established or its absence
	LastError   string    // why the last session or attempt ended; "" while established
	Prefixes    int       // announced; 0 unless Established
	Updates     uint64    // UPDATE messages sent since the peer is there
	Flaps       uint64    // how often it was lost
	BFD         *udp.Status
}

// Speaker holds the sessions of one node.
type Speaker struct {
	log     *slog.Logger
	changed func()
	bfd     *udp.Speaker
	downs   chan netip.Addr // whose BFD session broke

	mu       sync.Mutex
	opened   map[string]bool // peers with which this process has begun
	sessions map[string]*session
	idle     []*engine
}

// New makes a Speaker without sessions. changed is called after every change of
// what Status returns that matters, and must not block.
func New(log *slog.Logger, changed func()) *Speaker {
	s := &Speaker{log: log, changed: changed, sessions: map[string]*session{}, downs: make(chan netip.Addr, 64), opened: map[string]bool{}}
	s.bfd = udp.New(log, s.bfdChanged)
	return s
}

// lookEvery is how often a peer that was cut off is looked at again.
const lookEvery = 10 * time.Second

// Run watches the paths to the peers until ctx ends. It leaves the sessions as
// they are: those that are to be closed are closed by Close, and those of a
// process that ends, by the kernel, without a NOTIFICATION.
func (s *Speaker) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if err := s.bfd.Run(ctx); err != nil {
			s.log.Error("BFD does not run", "error", err)
		}
	})
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case addr := <-s.downs:
			s.cut(ctx, addr)
		case <-tick.C:
			s.revive(ctx)
		}
	}
}

// bfdChanged is called on the thread that keeps BFD.
func (s *Speaker) bfdChanged(st udp.Status) {
	s.changed()
	s.log.Info("BFD", "peer", st.Addr, "state", st.State, "reason", st.Diag)
	// A neighbour that takes its session down on purpose says nothing about the
	// path (RFC 5882 section 4.2).
	if st.State != bfd.Down || st.Remote == bfd.AdminDown || st.Flaps == 0 {
		return
	}
	select {
	case s.downs <- st.Addr:
	default: // the sessions are all being closed already
	}
}

// cut closes the session to addr at once.
func (s *Speaker) cut(ctx context.Context, addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.sessions {
		if one.peer.Addr == addr && one.peer.BFD != nil {
			one.journal.tell("BFD: the path is down")
			if err := one.engine.reset(ctx, addr, "BFD down"); err != nil {
				s.log.Error("close the session", "peer", one.peer.Name, "error", err)
			}
		}
	}
}

// revive tries again with peers that announced too much.
func (s *Speaker) revive(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.sessions {
		if one.journal.cutOffFor() > time.Minute {
			one.journal.revived()
			if err := one.engine.enable(ctx, one.peer.Addr); err != nil {
				s.log.Error("try again", "peer", one.peer.Name, "error", err)
			}
		}
	}
}

// Sync brings sessions and paths to what plan says: what goes away is withdrawn
// first. A session whose settings changed is closed and opened anew; no other
// is touched. One that cannot be held does not keep the rest from it.
func (s *Speaker) Sync(ctx context.Context, plan bgp.Plan) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := map[string]bgp.Peer{}
	for _, p := range plan.Peers {
		wanted[p.Name] = p
	}
	var errs []error
	for name, one := range s.sessions {
		if want, stays := wanted[name]; !stays || !one.same(want) {
			errs = append(errs, s.drop(ctx, one))
		}
	}
	for _, p := range plan.Peers {
		if err := s.hold(ctx, p, plan.RouterID); err != nil {
			errs = append(errs, fmt.Errorf("peer %s: %w", p.Name, err))
		}
	}
	s.bfd.Sync(watched(plan))
	return errors.Join(errs...)
}

func watched(plan bgp.Plan) []udp.Peer {
	var out []udp.Peer
	for _, p := range plan.Peers {
		if f := p.BFD; f != nil {
			out = append(out, udp.Peer{
				Addr: p.Addr, Source: p.Source, Multihop: f.Multihop,
				Config: bfd.Config{MinTx: f.MinTx, MinRx: f.MinRx, Multiplier: f.Multiplier, Passive: f.Passive},
			})
		}
	}
	return out
}

// hold opens the session to p, or changes its paths.
func (s *Speaker) hold(ctx context.Context, p bgp.Peer, routerID netip.Addr) error {
	one := s.sessions[p.Name]
	if one == nil {
		e, err := s.engine(ctx, routerID)
		if err != nil {
			return err
		}
		one = newSession(p, e, s.log, s.changed)
		if err := one.announce(ctx, p.Paths); err != nil {
			return err
		}
		if err := one.open(ctx, !s.opened[p.Name]); err != nil {
			one.stop()
			return err
		}
		s.sessions[p.Name], s.opened[p.Name] = one, true
		return nil
	}
	one.peer.BFD = p.BFD
	return one.announce(ctx, p.Paths)
}

// engine returns a gobgp server without peers and paths. They cannot be ended,
// so those of peers that are gone are used again.
func (s *Speaker) engine(ctx context.Context, routerID netip.Addr) (*engine, error) {
	for i, e := range s.idle {
		if e.routerID == routerID {
			s.idle = slices.Delete(s.idle, i, i+1)
			return e, nil
		}
	}
	return newEngine(ctx, routerID)
}

// drop withdraws a session's paths and closes it.
func (s *Speaker) drop(ctx context.Context, one *session) error {
	err := errors.Join(one.announce(ctx, nil), one.close(ctx))
	delete(s.sessions, one.peer.Name)
	if err == nil {
		s.idle = append(s.idle, one.engine)
	}
	return err
}

// Close withdraws everything and closes every session with a NOTIFICATION: for
// a node that goes away. BFD sessions say Admin Down.
func (s *Speaker) Close(ctx context.Context) error { return s.Sync(ctx, bgp.Plan{}) }

// Status returns all sessions, sorted by name.
func (s *Speaker) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	paths := map[netip.Addr]udp.Status{}
	for _, st := range s.bfd.Status() {
		paths[st.Addr] = st
	}
	var out []Status
	for _, one := range s.sessions {
		st := one.status()
		if f, ok := paths[one.peer.Addr]; ok && one.peer.BFD != nil {
			st.BFD = &f
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return out
}
