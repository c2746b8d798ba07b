package gobgp

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"sync"
	"time"

	api "github.com/osrg/gobgp/v3/api"

	"github.com/fairlead/fairlead/announcer/bgp"
)

// session is one peer in its server.
type session struct {
	peer    bgp.Peer // without paths
	engine  *engine
	journal *journal
	paths   map[netip.Prefix]bgp.Path // that the server has

	mu    sync.Mutex
	state string
	up    bool
	since time.Time
	flaps uint64
}

// newSession makes a session that does not dial yet. One that is passive takes in
// what comes through conns.
func newSession(ctx context.Context, p bgp.Peer, routerID netip.Addr, conns chan *net.TCPConn, log *slog.Logger) (*session, error) {
	p.Paths = nil
	s := &session{
		peer: p, paths: map[netip.Prefix]bgp.Path{}, state: "Idle", since: time.Now(),
		journal: &journal{log: log.With("peer", p.Name)},
	}
	var err error
	s.engine, err = newEngine(ctx, routerID, conns, &listener{s.journal})
	return s, err
}

// open starts to dial. The router is told that this node went on forwarding
// while there was no session.
func (s *session) open(ctx context.Context) error {
	if err := s.engine.watch(ctx, s.took); err != nil {
		return err
	}
	return s.engine.addPeer(ctx, s.peer, true)
}

// close withdraws everything and ends the session.
func (s *session) close(ctx context.Context) error {
	return errors.Join(s.announce(ctx, nil), s.engine.stop(ctx))
}

// states are gobgp's, by RFC 4271's names.
var states = map[api.PeerState_SessionState]string{
	api.PeerState_IDLE: "Idle", api.PeerState_CONNECT: "Connect", api.PeerState_ACTIVE: "Active", api.PeerState_OPENSENT: "OpenSent",
	api.PeerState_OPENCONFIRM: "OpenConfirm", api.PeerState_ESTABLISHED: "Established",
}

// took takes in a state that the session has entered.
func (s *session) took(state api.PeerState_SessionState) {
	s.mu.Lock()
	was, up := s.up, state == api.PeerState_ESTABLISHED
	s.up, s.state = up, states[state]
	if was != up {
		s.since = time.Now()
	}
	if was && !up {
		s.flaps++
	}
	s.mu.Unlock()
	if !was && up {
		s.journal.clear()
		s.journal.log.Info("BGP session established")
	}
}

// announce makes paths what the peer hears: withdrawals first.
func (s *session) announce(ctx context.Context, paths []bgp.Path) error {
	wanted := map[netip.Prefix]bool{}
	for _, p := range paths {
		wanted[p.Prefix] = true
	}
	var errs []error
	for prefix, p := range s.paths {
		if wanted[prefix] {
			continue
		}
		if err := s.engine.path(ctx, s.peer, p, true); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(s.paths, prefix)
	}
	for _, p := range paths {
		if have, ok := s.paths[p.Prefix]; ok && reflect.DeepEqual(have, p) {
			continue
		}
		if err := s.engine.path(ctx, s.peer, p, false); err != nil {
			errs = append(errs, err)
			continue
		}
		s.paths[p.Prefix] = p
	}
	return errors.Join(errs...)
}

func (s *session) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Status{Established: s.up, State: s.state, Since: s.since, Flaps: s.flaps, Updates: s.engine.updates(s.peer.Addr)}
	if s.up {
		out.Prefixes = len(s.paths)
	} else {
		out.LastError = s.journal.last()
	}
	return out
}
