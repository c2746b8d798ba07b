package gobgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"slices"
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

	table   sync.Mutex
	wanted  []bgp.Path
	paths   map[netip.Prefix]bgp.Path // that the server has
	offered bool                      // by the router's last OPEN: it takes paths that are foreign

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
	if err := s.engine.watch(ctx, func(state api.PeerState_SessionState) { s.enter(ctx, state) }); err != nil {
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

// enter takes in a state that the session has entered.
func (s *session) enter(ctx context.Context, state api.PeerState_SessionState) {
	if state == api.PeerState_OPENCONFIRM || state == api.PeerState_ESTABLISHED {
		s.heed(ctx)
	}
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

// announce makes paths what the peer hears, as far as it can.
func (s *session) announce(ctx context.Context, paths []bgp.Path) error {
	s.table.Lock()
	defer s.table.Unlock()
	s.wanted = paths
	return s.settle(ctx)
}

// heed takes in what the router's OPEN offers.
func (s *session) heed(ctx context.Context) {
	offers := s.engine.takesForeign(ctx, s.peer.Addr)
	s.table.Lock()
	defer s.table.Unlock()
	if s.offered == offers {
		return
	}
	s.offered = offers
	if err := s.settle(ctx); err != nil {
		s.journal.log.Error("announce what the router can take", "error", err)
	}
}

// foreign tells whether p's next hop is of another family than its prefix. The
// router must have offered to take such paths (RFC 8950 section 4).
func (s *session) foreign(p bgp.Path) bool {
	return p.Prefix.Addr().Is4() && !p.NextHop.IsValid() && !s.peer.Addr.Is4()
}

// settle makes the server's table what is wanted: withdrawals first.
func (s *session) settle(ctx context.Context) error {
	can := s.wanted
	if !s.offered {
		can = slices.DeleteFunc(slices.Clone(can), s.foreign)
	}
	wanted := map[netip.Prefix]bool{}
	for _, p := range can {
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
	for _, p := range can {
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

// announcedPaths returns how many paths the server has, and why the router cannot have more.
func (s *session) announcedPaths() (n int, why string) {
	s.table.Lock()
	defer s.table.Unlock()
	held := 0
	for _, p := range s.wanted {
		if !s.offered && s.foreign(p) {
			held++
		}
	}
	if held > 0 {
		why = fmt.Sprintf("IPv4 prefixes that are not announced: %d. This node has no IPv4 address, and the router offers no extended next hop (RFC 8950)", held)
	}
	return len(s.paths), why
}

func (s *session) status() Status {
	prefixes, why := s.announcedPaths()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Status{Established: s.up, State: s.state, Since: s.since, Flaps: s.flaps, Updates: s.engine.updates(s.peer.Addr)}
	if s.up {
		out.Prefixes, out.LastError = prefixes, why
	} else {
		out.LastError = s.journal.last()
	}
	return out
}
