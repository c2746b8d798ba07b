package speaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/announcer/bgp/gobgp"
)

// pollEvery is how often a session's process is asked how it stands.
const pollEvery = 500 * time.Millisecond

// session is one BGP session. A goroutine of its own speaks with the session's
// process, so that one that does not answer holds up nobody else.
type session struct {
	log     *slog.Logger
	changed func()
	command func() *exec.Cmd
	wake    chan struct{} // one slot
	quit    chan struct{} // closed by abandon
	ended   chan struct{} // closed at the end of run

	process  process    // run's alone
	routerID netip.Addr // run's alone: what the process has

	mu        sync.Mutex
	wanted    goal
	waiting   []chan struct{} // closed when the goal was tried
	child     *os.Process     // for abandon
	conns     *net.UnixConn   // for pass
	abandoned bool
	status    gobgp.Status
	crashes   uint64
}

// goal is what a session is to be.
type goal struct {
	peer     bgp.Peer
	routerID netip.Addr
	end      bool   // withdraw everything and end with a NOTIFICATION
	reset    string // close the session, once, and why
}

func newSession(p bgp.Peer, log *slog.Logger, changed func(), command func() *exec.Cmd) *session {
	return &session{
		log: log.With("peer", p.Name), changed: changed, command: command, wanted: goal{peer: p},
		wake: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{}),
		status: gobgp.Status{State: "Idle", Since: time.Now(), LastError: "the session's process is being started"},
	}
}

// change replaces the goal by what change makes of it, and returns a
// channel that is closed when that was tried.
func (sess *session) change(change func(*goal)) <-chan struct{} {
	tried := make(chan struct{})
	sess.mu.Lock()
	change(&sess.wanted)
	sess.waiting = append(sess.waiting, tried)
	sess.mu.Unlock()
	select {
	case sess.wake <- struct{}{}:
	default: // a wake-up is pending
	}
	return tried
}

// run carries out goals until one ends the session, or until abandon.
func (sess *session) run() {
	defer close(sess.ended)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		g, waiting := sess.takeGoal()
		sess.carryOut(g)
		for _, tried := range waiting {
			close(tried)
		}
		if g.end {
			return
		}
		select {
		case <-sess.wake:
		case <-tick.C:
		case <-sess.quit:
			sess.process.kill()
			return
		}
	}
}

func (sess *session) takeGoal() (goal, []chan struct{}) {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	g, waiting := sess.wanted, sess.waiting
	sess.wanted.reset, sess.waiting = "", nil
	return g, waiting
}

// carryOut tells the process the goal, and takes in how it stands. One
// that fails is started again.
func (sess *session) carryOut(g goal) {
	p := &sess.process
	if g.end || p.cmd != nil && (!p.same(g.peer) || g.routerID != sess.routerID) {
		if err := p.close(); err != nil {
			sess.log.Warn("a BGP session's process ended and gave no reason", "error", err)
		}
	}
	if g.end {
		return
	}
	if p.cmd != nil {
		err := p.update(g)
		if err == nil {
			sess.publishStatus(p)
			return
		}
		sess.log.Error("a BGP session's process ended and is started again", "error", err)
		p.crashed()
		p.status = gobgp.Status{State: "Idle", Since: time.Now(), LastError: "the session's process ended: " + err.Error(), Flaps: p.past.Flaps, Updates: p.past.Updates}
	}
	if p.due(time.Now()) {
		if err := sess.start(g); err != nil {
			sess.log.Error("BGP session", "error", err)
			p.fails()
		}
	}
	sess.publishStatus(p)
}

// start starts the process, unless the session was abandoned.
func (sess *session) start(g goal) error {
	sess.process.peer, sess.routerID = g.peer, g.routerID
	sess.mu.Lock()
	if sess.abandoned {
		sess.mu.Unlock()
		return nil
	}
	err := sess.process.start(sess.command(), sess.log)
	if err == nil {
		sess.child, sess.conns = sess.process.cmd.Process, sess.process.conns
	}
	sess.mu.Unlock()
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := sess.process.do(sess.process.order(g.routerID)); err != nil {
		sess.process.kill()
		return err
	}
	return nil
}

// publishStatus takes in how the process stands, and tells of it if it is news.
func (sess *session) publishStatus(p *process) {
	sess.mu.Lock()
	was, now := sess.status, p.status
	sess.status, sess.crashes = now, p.crashes
	gone := sess.abandoned
	sess.mu.Unlock()
	if gone {
		return
	}
	told := was.Established != now.Established || was.LastError != now.LastError
	if told {
		sess.log.Info("BGP session", "established", now.Established, "reason", now.LastError)
	}
	if told || was.State != now.State || was.Prefixes != now.Prefixes {
		sess.changed()
	}
}

// abandon ends the process without a word to the router.
func (sess *session) abandon() {
	sess.mu.Lock()
	sess.abandoned = true
	if sess.child != nil {
		_ = sess.child.Kill() // an answer that is waited for will not come
	}
	sess.mu.Unlock()
	close(sess.quit)
}

// passWithin is how long a process may take to make room for a connection.
const passWithin = 100 * time.Millisecond

// pass gives the process a connection that the router opened.
func (sess *session) pass(conn *net.TCPConn) error {
	sess.mu.Lock()
	to, p := sess.conns, sess.wanted.peer
	sess.mu.Unlock()
	if to == nil {
		return errors.New("the session has no process")
	}
	if err := to.SetWriteDeadline(time.Now().Add(passWithin)); err != nil {
		return fmt.Errorf("pass a connection: %w", err)
	}
	if err := welcome(conn, p); err != nil {
		return gobgp.Refuse(to, err)
	}
	inner, outer, err := loop(context.Background())
	if err != nil {
		return err
	}
	defer func() { _, _ = inner.Close(), outer.Close() }()
	return gobgp.Pass(to, gobgp.Wire{Router: conn, Inner: inner, Outer: outer})
}

// statusAndPeer is what there is to know of the session, and what it is to be.
func (sess *session) statusAndPeer() (Status, bgp.Peer) {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	p := sess.wanted.peer
	return Status{Name: p.Name, Addr: p.Addr, Status: sess.status, Crashes: sess.crashes}, p
}
