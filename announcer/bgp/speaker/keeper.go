package speaker

import (
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

// lookEvery is how often a session's process is asked how it stands.
const lookEvery = 500 * time.Millisecond

// keeper holds one session. A goroutine of its own speaks with the session's
// process, so that one that does not answer holds up nobody else.
type keeper struct {
	log     *slog.Logger
	changed func()
	command func() *exec.Cmd
	wake    chan struct{} // one slot
	quit    chan struct{} // closed by abandon
	ended   chan struct{} // closed at the end of run

	process  process    // run's alone
	routerID netip.Addr // run's alone: what the process has

	mu      sync.Mutex
	wanted  wish
	waiting []chan struct{} // for the wish to be tried
	child   *os.Process     // for abandon
	conns   *net.UnixConn   // for pass
	gone    bool
	status  gobgp.Status
	crashes uint64
}

// wish is what a session is to be.
type wish struct {
	peer     bgp.Peer
	routerID netip.Addr
	end      bool   // withdraw everything and end with a NOTIFICATION
	reset    string // close the session, once, and why
}

func newKeeper(p bgp.Peer, log *slog.Logger, changed func(), command func() *exec.Cmd) *keeper {
	return &keeper{
		log: log.With("peer", p.Name), changed: changed, command: command, wanted: wish{peer: p},
		wake: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{}),
		status: gobgp.Status{State: "Idle", Since: time.Now(), LastError: "the session's process is being started"},
	}
}

// want replaces what is wished for by what change makes of it, and returns a
// channel that is closed when that was tried.
func (k *keeper) want(change func(*wish)) <-chan struct{} {
	tried := make(chan struct{})
	k.mu.Lock()
	change(&k.wanted)
	k.waiting = append(k.waiting, tried)
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default: // it will look anyway
	}
	return tried
}

// run fulfils wishes until one is to end, or until abandon.
func (k *keeper) run() {
	defer close(k.ended)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		w, waiting := k.next()
		k.fulfil(w)
		for _, tried := range waiting {
			close(tried)
		}
		if w.end {
			return
		}
		select {
		case <-k.wake:
		case <-tick.C:
		case <-k.quit:
			k.process.kill()
			return
		}
	}
}

func (k *keeper) next() (wish, []chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w, waiting := k.wanted, k.waiting
	k.wanted.reset, k.waiting = "", nil
	return w, waiting
}

// fulfil tells the process what is wished for, and takes in how it stands. One
// that fails is started anew.
func (k *keeper) fulfil(w wish) {
	p := &k.process
	if w.end || p.cmd != nil && (!p.same(w.peer) || w.routerID != k.routerID) {
		if err := p.close(); err != nil {
			k.log.Warn("a BGP session ended without a word", "error", err)
		}
	}
	if w.end {
		return
	}
	if p.cmd != nil {
		err := p.tell(w)
		if err == nil {
			k.took(p)
			return
		}
		k.log.Error("a BGP session's process ended; starting it anew", "error", err)
		p.crashed()
	}
	if err := k.start(w); err != nil {
		k.log.Error("BGP session", "error", err)
	}
	k.took(p)
}

// start starts the process, unless the keeper was abandoned.
func (k *keeper) start(w wish) error {
	k.process.peer, k.routerID = w.peer, w.routerID
	k.mu.Lock()
	if k.gone {
		k.mu.Unlock()
		return nil
	}
	err := k.process.start(k.command())
	if err == nil {
		k.child, k.conns = k.process.cmd.Process, k.process.conns
	}
	k.mu.Unlock()
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := k.process.do(k.process.order(w.routerID)); err != nil {
		k.process.kill()
		return err
	}
	return nil
}

// took takes in how the process stands, and tells of it if it is news.
func (k *keeper) took(p *process) {
	k.mu.Lock()
	was, now := k.status, p.status
	k.status, k.crashes = now, p.crashes
	gone := k.gone
	k.mu.Unlock()
	if gone {
		return
	}
	told := was.Established != now.Established || was.LastError != now.LastError
	if told {
		k.log.Info("BGP session", "established", now.Established, "reason", now.LastError)
	}
	if told || was.State != now.State || was.Prefixes != now.Prefixes {
		k.changed()
	}
}

// abandon ends the process without a word to the router.
func (k *keeper) abandon() {
	k.mu.Lock()
	k.gone = true
	if k.child != nil {
		_ = k.child.Kill() // an answer that is waited for will not come
	}
	k.mu.Unlock()
	close(k.quit)
}

// passWithin is how long a process may take to make room for a connection.
const passWithin = 100 * time.Millisecond

// pass gives the process a connection of the router's.
func (k *keeper) pass(conn *net.TCPConn) error {
	k.mu.Lock()
	to := k.conns
	k.mu.Unlock()
	if to == nil {
		return errors.New("the session has no process")
	}
	if err := to.SetWriteDeadline(time.Now().Add(passWithin)); err != nil {
		return fmt.Errorf("pass a connection: %w", err)
	}
	return gobgp.Pass(to, conn)
}

// about is what there is to know of the session, and what it is to be.
func (k *keeper) about() (Status, bgp.Peer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.wanted.peer
	return Status{Name: p.Name, Addr: p.Addr, Status: k.status, Crashes: k.crashes}, p
}
