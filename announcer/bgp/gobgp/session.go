package gobgp

import (
	"context"
	"errors"
	"fmt"
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
	peer     bgp.Peer // without paths
	engine   *engine
	journal  *journal
	accepted chan *net.TCPConn // what gobgp takes in
	idle     *gate             // open while it waits for a connection
	inbox    *inbox            // what the router opened

	stopConnecting context.CancelFunc // set by open
	ended          chan struct{}      // closed when no connection is left

	table   sync.Mutex
	wanted  []bgp.Path
	paths   map[netip.Prefix]bgp.Path // that the server has
	own     netip.Addr                // this node's end of the last connection; invalid: there was none
	offered bool                      // by the router's last OPEN: it takes paths that are foreign

	mu    sync.Mutex
	state string
	up    bool
	since time.Time
	flaps uint64
}

// newSession makes a session that does not connect yet. One that is passive takes in
// what comes through the inbox.
func newSession(ctx context.Context, p bgp.Peer, routerID netip.Addr, in *inbox, log *slog.Logger) (*session, error) {
	p.Paths = nil
	s := &session{
		peer: p, paths: map[netip.Prefix]bgp.Path{}, state: "Idle", since: time.Now(), accepted: make(chan *net.TCPConn),
		idle: newGate(), inbox: in, ended: make(chan struct{}), journal: &journal{log: log.With("peer", p.Name)},
	}
	var err error
	s.engine, err = newEngine(ctx, routerID, s.accepted, &listener{s.journal})
	return s, err
}

// open starts to connect. The router is told that this node went on forwarding
// while there was no session.
func (s *session) open(ctx context.Context) error {
	connecting, stop := context.WithCancel(ctx)
	s.stopConnecting = stop
	go s.run(ctx, connecting)
	if err := s.engine.watch(ctx, s.enter); err != nil {
		return err
	}
	return s.engine.addPeer(ctx, s.peer, true)
}

// closeWithin is how long a router may take to read the last words of a session.
const closeWithin = 2 * time.Second

// close withdraws everything and ends the session with a NOTIFICATION. It returns
// when the router's socket has taken all that.
func (s *session) close(ctx context.Context) error {
	s.stopConnecting()
	err := errors.Join(s.announce(ctx, nil), s.engine.stop(ctx))
	select {
	case <-s.ended:
	case <-time.After(closeWithin):
		err = errors.Join(err, errors.New("close: the router does not read"))
	}
	return err
}

// states are gobgp's, by RFC 4271's names.
var states = map[api.PeerState_SessionState]string{
	api.PeerState_IDLE: "Idle", api.PeerState_CONNECT: "Connect", api.PeerState_ACTIVE: "Active", api.PeerState_OPENSENT: "OpenSent",
	api.PeerState_OPENCONFIRM: "OpenConfirm", api.PeerState_ESTABLISHED: "Established",
}

// enter takes in a state that the session has entered.
func (s *session) enter(state api.PeerState_SessionState) {
	s.idle.set(state == api.PeerState_ACTIVE)
	s.mu.Lock()
	was, up := s.up, state == api.PeerState_ESTABLISHED
	s.up, s.state = up, states[state]
	if was && !up {
		s.flaps++
	}
	if was != up {
		s.since = time.Now()
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

// begin takes in this node's end of a new connection, which is the next hop of paths
// that have no other.
func (s *session) begin(ctx context.Context, own netip.Addr) error {
	s.table.Lock()
	defer s.table.Unlock()
	// What the OPEN of an earlier connection offered says nothing of this one.
	s.own, s.offered = own, false
	return s.settle(ctx)
}

// heed takes in what the router's OPEN offers. gobgp checks the AS number unless any
// other than this node's will do.
func (s *session) heed(ctx context.Context, o offer) error {
	if s.peer.PeerASN == 0 && o.asn() == s.peer.LocalASN {
		return &notification{2, 2, "an OPEN of this node's own AS: peerASN has to say so"}
	}
	s.table.Lock()
	defer s.table.Unlock()
	s.offered = o.foreignHop
	if err := s.settle(ctx); err != nil {
		s.journal.log.Error("announce what the router can take", "error", err)
	}
	return nil
}

// foreign reports whether p's next hop is of another family than its prefix. The
// router must have offered to take such paths (RFC 8950 section 4).
func (s *session) foreign(p bgp.Path) bool {
	return p.Prefix.Addr().Is4() && !p.NextHop.IsValid() && !s.peer.Addr.Is4()
}

// settle makes the server's table what is wanted and can be told: withdrawals first.
func (s *session) settle(ctx context.Context) error {
	var can []bgp.Path
	wanted := map[netip.Prefix]bool{}
	for _, p := range s.wanted {
		// Before the first connection it is not known which address is the next hop.
		if !s.own.IsValid() || !s.offered && s.foreign(p) {
			continue
		}
		if !p.NextHop.IsValid() {
			p.NextHop = s.own
		}
		can = append(can, p)
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
	out := Status{Established: s.up, State: s.state, Since: s.since, Flaps: s.flaps, Updates: s.engine.updates()}
	if s.up {
		out.Prefixes, out.LastError = prefixes, why
	} else {
		out.LastError = s.journal.last()
	}
	return out
}
