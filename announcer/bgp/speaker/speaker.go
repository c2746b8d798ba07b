// Package speaker holds the BGP sessions that package bgp decides on, each in a
// process of its own that runs package gobgp. A process that fails ends its own
// session, which is opened again; no other session, and nothing else that the agent
// does, notices. The paths to the peers are watched by BFD
// in this process.
package speaker

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
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
	log       *slog.Logger
	changed   func()
	command   func() *exec.Cmd
	bfd       *udp.Speaker
	listeners listeners
	downs     chan netip.Addr // whose BFD session broke

	mu       sync.Mutex
	sessions map[string]*session
	closed   bool // closed, or Run has ended
}

// New makes a Speaker without sessions. command makes the process of a session,
// which has to call gobgp.Serve with its standard input and output; changed is
// called after every change of what Status returns that matters, and must not
// block.
func New(log *slog.Logger, changed func(), command func() *exec.Cmd) *Speaker {
	s := &Speaker{log: log, changed: changed, command: command, sessions: map[string]*session{}, downs: make(chan netip.Addr, 64)}
	s.bfd = udp.New(log, s.bfdChanged)
	s.listeners = listeners{log: log, accepted: s.passConnection, open: map[listenPort]*listener{}, failed: map[listenPort]error{}}
	return s
}

// Run watches sessions and paths until ctx ends. Then it ends the sessions'
// processes without a word to the routers: a stop is a restart, and routers that
// know graceful restart keep their routes. Close is for the other way out. Before,
// BFD asks these routers to wait for the restart. It says Admin Down to the others
// only when the sessions are gone: FRR 8.4 closes one that is still there for that,
// and then forgets its routes.
func (s *Speaker) Run(ctx context.Context) error {
	paths, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.bfd.Run(paths); err != nil {
			s.log.Error("BFD does not run", "error", err)
		}
	})
	again := time.NewTicker(listenEvery)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			if s.listeners.retry() {
				s.changed()
			}
		case <-ctx.Done():
			s.listeners.sync(nil)
			s.bfd.Leave()
			s.abandon()
			stop()
			wg.Wait()
			return nil
		case addr := <-s.downs:
			s.resetSessions(addr)
		}
	}
}

func (s *Speaker) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, sess := range s.sessions {
		sess.abandon()
	}
	for _, sess := range s.sessions {
		<-sess.ended
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

// passConnection passes a connection that a router opened to the session that waits for it.
// Connections of anybody else are refused.
func (s *Speaker) passConnection(at listenPort, conn *net.TCPConn) {
	defer func() { _ = conn.Close() }() // the session's process has its own
	from := addrOf(conn.RemoteAddr())
	s.mu.Lock()
	var to *session
	for _, sess := range s.sessions {
		if _, p := sess.statusAndPeer(); p.Passive && p.Addr == from && listenPortOf(p) == at {
			to = sess
		}
	}
	s.mu.Unlock()
	if to == nil {
		s.log.Debug("refused a BGP connection: it comes from no passive peer", "from", from)
		return
	}
	if err := to.pass(conn); err != nil {
		s.log.Warn("a router's connection", "from", from, "error", err)
	}
}

// resetSessions closes the session to addr at once.
func (s *Speaker) resetSessions(addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sess := range s.sessions {
		if _, p := sess.statusAndPeer(); p.Addr == addr && p.BFD != nil {
			sess.change(func(g *goal) { g.reset = "BFD: the path is down" })
		}
	}
}

// obeyWithin is how long Sync waits for sessions to withdraw, and again for the
// rest. The caller has more to do than to wait for a process that does not
// answer.
const obeyWithin = 100 * time.Millisecond

// Sync brings sessions and paths to what plan says: what goes away is withdrawn
// first. A session whose settings changed is closed and opened again; no other
// is touched. It returns when all is done, or after a fifth of a second: what is
// left then goes on, and Status tells of it.
func (s *Speaker) Sync(plan bgp.Plan) { s.sync(plan, obeyWithin) }

func (s *Speaker) sync(plan bgp.Plan, within time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	wanted := map[string]bool{}
	for _, p := range plan.Peers {
		wanted[p.Name] = true
	}
	var tried []<-chan struct{}
	for name, sess := range s.sessions {
		if !wanted[name] {
			tried = append(tried, sess.change(func(g *goal) { g.end = true }))
			delete(s.sessions, name)
		}
	}
	await(tried, within)
	tried = nil
	for _, p := range plan.Peers {
		tried = append(tried, s.syncSession(p, plan.RouterID))
	}
	s.bfd.Sync(watched(plan))
	s.listeners.sync(plan.Peers)
	await(tried, within)
}

func await(tried []<-chan struct{}, within time.Duration) {
	enough := time.After(within)
	for _, one := range tried {
		select {
		case <-one:
		case <-enough:
			return
		}
	}
}

func watched(plan bgp.Plan) []udp.Peer {
	var out []udp.Peer
	for _, p := range plan.Peers {
		if f := p.BFD; f != nil {
			out = append(out, udp.Peer{
				Addr: p.Addr, Source: p.Source, Multihop: f.Multihop, Links: f.Links, MinTTL: f.MinTTL,
				Config: bfd.Config{MinTx: f.MinTx, MinRx: f.MinRx, Multiplier: f.Multiplier, Passive: f.Passive, Restart: p.RestartTime},
			})
		}
	}
	return out
}

// syncSession opens the session to p, or changes its paths.
func (s *Speaker) syncSession(p bgp.Peer, routerID netip.Addr) <-chan struct{} {
	sess := s.sessions[p.Name]
	if sess == nil {
		sess = newSession(p, s.log, s.changed, s.command)
		s.sessions[p.Name] = sess
		defer func() { go sess.run() }()
	}
	return sess.change(func(g *goal) { g.peer, g.routerID = p, routerID })
}

// Close withdraws everything and closes every session with a NOTIFICATION: for
// a node that goes away. BFD sessions say Admin Down. It waits for that as long
// as a process may take; Sync does nothing afterwards.
func (s *Speaker) Close() {
	s.sync(bgp.Plan{}, answerWithin)
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
}

// Status returns all sessions as they were when last looked at, sorted by name.
func (s *Speaker) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	paths := map[netip.Addr]udp.Status{}
	for _, st := range s.bfd.Status() {
		paths[st.Addr] = st
	}
	var out []Status
	for _, sess := range s.sessions {
		st, p := sess.statusAndPeer()
		if f, ok := paths[p.Addr]; ok && p.BFD != nil {
			st.BFD = &f
		}
		if p.Passive && !st.Established {
			st.LastError = cmp.Or(s.listeners.trouble(p), st.LastError, fmt.Sprintf("waits for the router to connect to port %d", p.Port))
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return out
}
