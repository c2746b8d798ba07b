package speaker

import (
	"context"
	"errors"
	"log/slog"
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
	stop    context.CancelFunc        // of the watch
	changed func()

	mu    sync.Mutex
	state string
	up    bool
	since time.Time
	flaps uint64
}

func newSession(p bgp.Peer, e *engine, log *slog.Logger, changed func()) *session {
	p.Paths = nil
	s := &session{
		peer: p, engine: e, paths: map[netip.Prefix]bgp.Path{}, changed: changed, state: "Idle", since: time.Now(), stop: func() {},
		journal: &journal{log: log.With("peer", p.Name), changed: changed},
	}
	e.log.set(s.journal)
	return s
}

// same tells whether the session can go on as p. How its path is watched does
// not matter to it.
func (s *session) same(p bgp.Peer) bool {
	a, b := s.peer, p
	a.Paths, b.Paths, a.BFD, b.BFD = nil, nil, nil, nil
	return reflect.DeepEqual(a, b)
}

// open starts to dial. After a start of the process the router is told that
// this node went on forwarding meanwhile.
func (s *session) open(ctx context.Context, restarting bool) error {
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	if err := s.engine.watch(watch, s.took); err != nil {
		return err
	}
	return s.engine.addPeer(ctx, s.peer, restarting)
}

func (s *session) close(ctx context.Context) error {
	s.stop()
	err := s.engine.deletePeer(ctx, s.peer.Addr)
	s.engine.log.set(nil)
	return err
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
	if was == up {
		return
	}
	if up {
		s.journal.clear()
		s.journal.log.Info("BGP session established")
	}
	s.changed()
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
	out := Status{
		Name: s.peer.Name, Addr: s.peer.Addr, Established: s.up, State: s.state, Since: s.since, Flaps: s.flaps,
		Updates: s.engine.updates(s.peer.Addr),
	}
	if s.up {
		out.Prefixes = len(s.paths)
	} else {
		out.LastError = s.journal.last()
	}
	return out
}
