// Package relay serves TCP node ports at the node's loopback addresses, for the node's own
// processes. Which endpoint a connection reaches, the engine decides.
package relay

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport"
)

// most is how many connections there are at a time, at all ports together. Others wait.
const most = 1000

// dialTimeout is how long an endpoint may take to accept a connection.
const dialTimeout = 5 * time.Second

// Relays holds the sockets. Make it with New, and Close it in the end.
type Relays struct {
	// Dial connects to the node's address; New sets it to a net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	log  *slog.Logger
	ctx  context.Context // of the connections, until Close
	stop context.CancelFunc
	room chan struct{}
	wg   sync.WaitGroup

	mu   sync.Mutex
	open map[netip.AddrPort]*listener
}

// listener is one socket.
type listener struct {
	net.Listener
	mu sync.Mutex
	to nodeport.Relay
}

// New returns Relays without a socket.
func New(log *slog.Logger) *Relays {
	ctx, stop := context.WithCancel(context.Background())
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &Relays{
		Dial: dialer.DialContext, log: log, ctx: ctx, stop: stop, room: make(chan struct{}, most), open: map[netip.AddrPort]*listener{},
	}
}

// Sync closes the sockets that are no longer wanted and opens the others. Connections that
// are open stay. What cannot be opened is a Problem, and the next Sync tries it again.
func (r *Relays) Sync(ctx context.Context, want []nodeport.Relay) []snapshot.Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted := map[netip.AddrPort]bool{}
	for _, w := range want {
		wanted[w.At] = true
	}
	for at, l := range r.open {
		if !wanted[at] {
			_ = l.Close() // nobody connects any more
			delete(r.open, at)
		}
	}
	var problems []snapshot.Problem
	for _, w := range want {
		// The node's address may be another now. Open connections stay with the former.
		if l := r.open[w.At]; l != nil {
			l.follow(w)
			continue
		}
		if err := r.listen(ctx, w); err != nil {
			problems = append(problems, snapshot.Problem{Service: w.Service, Reason: nodeport.PortOccupied, Message: fmt.Sprintf(
				"node port %d/TCP does not answer at %s: %v", w.At.Port(), w.At.Addr(), err)})
		}
	}
	return nodeport.SortProblems(problems)
}

// Close closes every socket and connection.
func (r *Relays) Close() {
	r.Sync(r.ctx, nil)
	r.stop()
	r.wg.Wait()
}

func (r *Relays) listen(ctx context.Context, w nodeport.Relay) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", w.At.String())
	if err != nil {
		return fmt.Errorf("open the port: %w", err)
	}
	open := &listener{Listener: l, to: w}
	r.open[w.At] = open
	r.wg.Go(func() { r.accept(open) })
	return nil
}

// accept serves a socket until it is closed.
func (r *Relays) accept(l *listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		select {
		case r.room <- struct{}{}:
		case <-r.ctx.Done():
			_ = conn.Close()
			return
		}
		r.wg.Go(func() {
			defer func() { <-r.room }()
			r.serve(conn, l.target())
		})
	}
}

// serve connects conn with to, until both sides have ended or the Relays are closed.
func (r *Relays) serve(conn net.Conn, to string) {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	closed := func(c net.Conn) { _ = c.Close() }
	defer closed(conn)
	other, err := r.Dial(ctx, "tcp", to)
	if err != nil {
		r.log.Debug("cannot relay a connection", "to", to, "error", err)
		return
	}
	defer closed(other)
	defer context.AfterFunc(ctx, func() { closed(conn); closed(other) })()
	var both sync.WaitGroup
	both.Go(func() { forward(other, conn) })
	both.Go(func() { forward(conn, other) })
	both.Wait()
}

// forward copies what comes from one connection to the other, and its end.
func forward(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		_ = to.Close() // a reset goes on as an end of both directions
		_ = from.Close()
		return
	}
	if half, ok := to.(*net.TCPConn); ok {
		_ = half.CloseWrite() // one that is closed already
	}
}

func (l *listener) follow(w nodeport.Relay) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = w
}

// target returns where connections go.
func (l *listener) target() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return netip.AddrPortFrom(l.to.To, l.to.At.Port()).String()
}
