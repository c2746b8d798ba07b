// Package speaker holds the BGP sessions that package bgp decides on, each in a
// process of its own that runs package gobgp: what a router sends can end that
// process, and then its session is opened anew; no other session, and nothing
// else that the agent does, notices. The paths to the peers are watched by BFD
// in this process.
package speaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead/fairlead/announcer/bfd"
	"github.com/fairlead/fairlead/announcer/bfd/udp"
	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/announcer/bgp/gobgp"
)

// Status is the state of one session.
type Status struct {
	Name string
	Addr netip.Addr
	gobgp.Status
	Crashes uint64 // how often the session's process ended by itself
	BFD     *udp.Status
}

// Speaker holds the sessions of one node.
type Speaker struct {
	log     *slog.Logger
	changed func()
	command func() *exec.Cmd
	bfd     *udp.Speaker
	downs   chan netip.Addr // whose BFD session broke

	mu       sync.Mutex
	routerID netip.Addr
	sessions map[string]*process
}

// New makes a Speaker without sessions. command makes the process of a session,
// which has to call gobgp.Serve with its standard input and output; changed is
// called after every change of what Status returns that matters, and must not
// block.
func New(log *slog.Logger, changed func(), command func() *exec.Cmd) *Speaker {
	s := &Speaker{log: log, changed: changed, command: command, sessions: map[string]*process{}, downs: make(chan netip.Addr, 64)}
	s.bfd = udp.New(log, s.bfdChanged)
	return s
}

// lookEvery is how often the processes are asked how it stands.
const lookEvery = 500 * time.Millisecond

// Run watches sessions and paths until ctx ends. Then it ends the sessions'
// processes without a word to the routers: a stop is a restart, and routers that
// know graceful restart keep their routes. Close is for the other way out.
func (s *Speaker) Run(ctx context.Context) error {
	var wg sync.WaitGroup
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
			s.abandon()
			wg.Wait()
			return nil
		case addr := <-s.downs:
			s.cut(addr)
		case <-tick.C:
			s.look()
		}
	}
}

func (s *Speaker) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.sessions {
		p.kill()
	}
	clear(s.sessions)
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
func (s *Speaker) cut(addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.sessions {
		if p.peer.Addr == addr && p.peer.BFD != nil {
			if err := p.do(gobgp.Order{Do: "reset", Why: "BFD: the path is down"}); err != nil {
				s.log.Error("close the session", "peer", p.peer.Name, "error", err)
			}
		}
	}
	s.changed()
}

// look asks every process how it stands, and starts those anew that ended.
func (s *Speaker) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := false
	for _, p := range s.sessions {
		was := p.status
		err := p.do(gobgp.Order{Do: "status"})
		if err != nil {
			s.log.Error("a BGP session's process ended; starting it anew", "peer", p.peer.Name, "error", err)
			if err = p.restart(s.command(), s.routerID); err != nil {
				s.log.Error("BGP session", "peer", p.peer.Name, "error", err)
			}
		}
		now := p.status
		if was.Established != now.Established || was.LastError != now.LastError {
			news = true
			s.log.Info("BGP session", "peer", p.peer.Name, "established", now.Established, "reason", now.LastError)
		}
		news = news || was.State != now.State || was.Prefixes != now.Prefixes
	}
	if news {
		s.changed()
	}
}

// Sync brings sessions and paths to what plan says: what goes away is withdrawn
// first. A session whose settings changed is closed and opened anew; no other
// is touched. One that cannot be held does not keep the rest from it.
func (s *Speaker) Sync(_ context.Context, plan bgp.Plan) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := map[string]bgp.Peer{}
	for _, p := range plan.Peers {
		wanted[p.Name] = p
	}
	var errs []error
	for name, one := range s.sessions {
		if want, stays := wanted[name]; !stays || !one.same(want) || plan.RouterID != s.routerID {
			if err := one.close(); err != nil {
				s.log.Warn("a BGP session ended without a word", "peer", name, "error", err)
			}
			delete(s.sessions, name)
		}
	}
	s.routerID = plan.RouterID
	for _, p := range plan.Peers {
		if err := s.hold(p); err != nil {
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
func (s *Speaker) hold(p bgp.Peer) error {
	one := s.sessions[p.Name]
	if one == nil {
		one = &process{peer: p}
		s.sessions[p.Name] = one
		return one.restart(s.command(), s.routerID)
	}
	if err := one.announce(p, s.routerID); err != nil {
		s.log.Error("a BGP session's process ended; starting it anew", "peer", p.Name, "error", err)
		return one.restart(s.command(), s.routerID)
	}
	return nil
}

// Close withdraws everything and closes every session with a NOTIFICATION: for
// a node that goes away. BFD sessions say Admin Down.
func (s *Speaker) Close(ctx context.Context) error { return s.Sync(ctx, bgp.Plan{}) }

// Status returns all sessions as they were when last looked at, sorted by name.
func (s *Speaker) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	paths := map[netip.Addr]udp.Status{}
	for _, st := range s.bfd.Status() {
		paths[st.Addr] = st
	}
	var out []Status
	for _, one := range s.sessions {
		st := Status{Name: one.peer.Name, Addr: one.peer.Addr, Status: one.status, Crashes: one.crashes}
		if f, ok := paths[st.Addr]; ok && one.peer.BFD != nil {
			st.BFD = &f
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return out
}
