package gobgp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
)

// The pauses before a session is tried again, beside the 5 s that gobgp waits itself.
const (
	shortestPause = 5 * time.Second
	longestPause  = 30 * time.Second
	// well is how long a session must have been up for the next to follow at once.
	well = 30 * time.Second
	// longestSend is when a router that takes nothing is given up at the latest
	// (RFC 9687 section 4).
	longestSend = 8 * time.Minute
)

// run opens one connection to the router after the other until connecting ends, and
// carries each until ctx does.
func (s *session) run(ctx, connecting context.Context) {
	defer close(s.ended)
	failures := 0
	for connecting.Err() == nil {
		wire, err := s.connect(connecting)
		if err != nil {
			s.journal.setReason(err.Error())
			sleep(connecting, jittered(s.peer.Connect))
			continue
		}
		if s.carry(ctx, wire) >= well {
			failures = 0
		}
		failures++
		if !s.peer.Passive { // a router that connects has a pause of its own
			sleep(connecting, jittered(pause(failures)))
		}
	}
}

// pause is how long a session waits that failed so often, one after the other.
func pause(failures int) time.Duration {
	if failures < 2 {
		return 0
	}
	return min(shortestPause<<min(failures-2, 8), longestPause)
}

// jittered is d less 0 to 25 %, so that the nodes of a cluster do not all come at once
// (RFC 4271 section 10).
func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.75 + 0.25*rand.Float64()))
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// connect returns the next connection with the router, once gobgp can take one.
func (s *session) connect(ctx context.Context) (Wire, error) {
	if err := s.idle.wait(ctx); err != nil {
		return Wire{}, err
	}
	if !s.peer.Passive {
		if err := s.inbox.request(); err != nil {
			return Wire{}, err
		}
	}
	return s.inbox.take(ctx)
}

// carry passes messages between the router and gobgp until one of them ends the
// session, or until ctx does. It returns for how long the session was up.
func (s *session) carry(ctx context.Context, wire Wire) time.Duration {
	router, outer := wire.Router, wire.Outer
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.inbox.setBusy(true)
	defer s.inbox.setBusy(false)
	defer func() { _, _ = router.Close(), outer.Close() }()
	if err := s.begin(ctx, addrOf(router.LocalAddr())); err != nil {
		s.journal.log.Error("announce over a new session", "error", err)
	}
	s.idle.set(false) // it opens when gobgp is done with this connection
	select {
	case s.accepted <- wire.Inner:
	case <-ctx.Done():
		_ = wire.Inner.Close()
		return 0
	}
	defer context.AfterFunc(ctx, func() { _ = router.Close() })()
	var sending sync.WaitGroup
	sending.Go(func() {
		send(router, outer, s.peer)
		_ = router.Close() // what waits for the router's next message ends too
	})
	in := &sieve{from: router, notified: s.journal.notified, opening: func(o offer) error { return s.heed(ctx, o) }}
	err := receive(in, outer)
	var fault *notification
	if errors.As(err, &fault) {
		s.journal.setReason(fault.Error())
		_ = router.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = router.Write(fault.message())
	}
	_ = outer.CloseWrite() // gobgp ends the session, and sends what it still has
	sending.Wait()
	return in.upFor()
}

// receive passes what in lets through to gobgp, and returns why it ends.
func receive(in *sieve, outer *net.TCPConn) error {
	for {
		msg, err := in.next()
		if err != nil {
			return err
		}
		if len(msg) == 0 {
			continue
		}
		if _, err := outer.Write(msg); err != nil {
			return fmt.Errorf("gobgp: %w", err)
		}
	}
}

// send passes what gobgp sends to the router. A router that takes nothing for the
// hold time is given up, though it is heard (RFC 9687).
func send(router, outer *net.TCPConn, p bgp.Peer) {
	within := min(p.Hold, longestSend)
	buf := make([]byte, 32<<10)
	for {
		n, err := outer.Read(buf)
		if n > 0 {
			if router.SetWriteDeadline(time.Now().Add(within)) != nil {
				return
			}
			if _, err := router.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return // io.EOF: gobgp has ended the session
		}
	}
}

// gate is open while gobgp can take a connection.
type gate struct {
	mu     sync.Mutex
	opened chan struct{} // closed while the gate is open
	open   bool
}

func newGate() *gate { return &gate{opened: make(chan struct{})} }

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case open && !g.open:
		close(g.opened)
	case !open && g.open:
		g.opened = make(chan struct{})
	}
	g.open = open
}

func (g *gate) wait(ctx context.Context) error {
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	select {
	case <-opened:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// delivery is a Wire, or why there is none.
type delivery struct {
	wire    Wire
	refusal error
}

// inbox holds what the parent passed last, for a session that is not ready for it yet.
type inbox struct {
	parent *net.UnixConn
	mu     sync.Mutex
	busy   bool
	kept   *delivery
	news   chan struct{} // one slot
}

func newInbox(parent *net.UnixConn) *inbox {
	return &inbox{parent: parent, news: make(chan struct{}, 1)}
}

// request asks the parent for a connection.
func (b *inbox) request() error {
	if _, err := b.parent.Write([]byte{0}); err != nil {
		return fmt.Errorf("ask for a connection: %w", err)
	}
	return nil
}

// put takes d in. While a session is up another connection is turned away.
func (b *inbox) put(d delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy {
		d.wire.Close()
		return
	}
	if b.kept != nil {
		b.kept.wire.Close()
	}
	b.kept = &d
	select {
	case b.news <- struct{}{}:
	default:
	}
}

func (b *inbox) setBusy(busy bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy = busy
}

// take waits for what the parent passes.
func (b *inbox) take(ctx context.Context) (Wire, error) {
	for {
		b.mu.Lock()
		d := b.kept
		b.kept = nil
		b.mu.Unlock()
		if d != nil {
			return d.wire, d.refusal
		}
		select {
		case <-b.news:
		case <-ctx.Done():
			return Wire{}, ctx.Err()
		}
	}
}
