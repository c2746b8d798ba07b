// Package gobgp holds one BGP session, and is the only package that knows gobgp.
// It runs in a process of its own (see package speaker): where gobgp v3.37.0 finds a
// fault in its own logic, it ends the process.
//
// gobgp never sees the router: this package is passed a connection with it, and feeds
// gobgp through a sieve that lets no UPDATE through. Before that the process gives up
// whatever else it may do (see package confine).
package gobgp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/confine"
)

// Order is what the process is asked for. It answers each with an Answer.
type Order struct {
	Do       string // "announce", "status", "reset" or "close"
	RouterID netip.Addr
	Peer     bgp.Peer // announce: with the paths, without the password. Its settings stay those of the first
	Why      string   // reset: told to the peer
}

// Answer is the state of the session after an Order.
type Answer struct {
	Status Status
	Error  string
}

// Status is the state of the session.
type Status struct {
	Established bool
	State       string    // as RFC 4271 section 8.2.2 spells it
	Since       time.Time // of Established or its absence
	LastError   string    // why the last session or attempt ended; while established, what it cannot carry
	Prefixes    int       // announced; 0 unless Established
	Updates     uint64    // UPDATE messages sent
	Flaps       uint64    // how often the session was lost
}

// Pipes are what the process speaks with its parent through.
type Pipes struct {
	Orders      io.Reader
	Answers     io.Writer
	Connections *net.UnixConn // what the session is to use comes through it
}

// Inherited are the pipes of a process that was started to hold a session: the
// standard input and output, and file descriptor 3.
func Inherited() (Pipes, error) {
	conn, err := net.FileConn(os.NewFile(3, "connections"))
	conns, ok := conn.(*net.UnixConn)
	if err != nil || !ok {
		return Pipes{}, fmt.Errorf("file descriptor 3 is not a Unix socket: %w", err)
	}
	return Pipes{Orders: os.Stdin, Answers: os.Stdout, Connections: conns}, nil
}

// The agent asks how the session stands every half second. One that has not asked for
// patience ticks is frozen. Ticks are counted, and not time: a node that stood still as a
// whole has missed them too.
const (
	tick     = 500 * time.Millisecond
	patience = 8
)

// Serve seals the process, and obeys the Orders that come in until there are no more, or
// one to close. It ends
// without a NOTIFICATION unless it was told to close, or the agent has frozen: then
// nobody knows whether the node should still announce what it does.
func Serve(ctx context.Context, p Pipes, log *slog.Logger) error {
	if err := confine.Seal(); err != nil {
		return fmt.Errorf("give up rights: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in := newInbox(p.Connections)
	go receivePassed(ctx, p.Connections, in)
	orders, failed := make(chan Order), make(chan error, 1)
	go func() { failed <- read(ctx, p.Orders, orders) }()
	answers := json.NewEncoder(p.Answers)
	open := func(o Order) (*session, error) { return newSession(ctx, o.Peer, o.RouterID, in, log) }
	var s *session
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	for silent := 0; ; silent++ {
		select {
		case o := <-orders:
			silent = 0
			if err := answers.Encode(answer(ctx, &s, o, open)); err != nil {
				return fmt.Errorf("answer: %w", err)
			}
			if o.Do == "close" {
				return nil
			}
		case err := <-failed:
			return err
		case <-ticks.C:
			// Without BFD, routers kept sending to a node whose frozen agent decided nothing.
			if s != nil && silent >= patience {
				return errors.Join(errors.New("the agent does not ask for the session any more"), s.close(ctx))
			}
		}
	}
}

// read passes Orders on until there are no more.
func read(ctx context.Context, from io.Reader, orders chan<- Order) error {
	decoder := json.NewDecoder(from)
	for {
		var o Order
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read an order: %w", err)
		}
		select {
		case orders <- o:
		case <-ctx.Done():
			return nil
		}
	}
}

// answer obeys o and returns how it stands then.
func answer(ctx context.Context, s **session, o Order, open func(Order) (*session, error)) (a Answer) {
	if err := obey(ctx, s, o, open); err != nil {
		a.Error = err.Error()
	}
	if *s != nil && o.Do != "close" {
		a.Status = (*s).status()
	}
	return a
}

func obey(ctx context.Context, s **session, o Order, open func(Order) (*session, error)) error {
	switch {
	case o.Do == "announce" && *s == nil:
		one, err := open(o)
		if err != nil {
			return err
		}
		*s = one
		return errors.Join(one.announce(ctx, o.Peer.Paths), one.open(ctx))
	case o.Do == "announce":
		return (*s).announce(ctx, o.Peer.Paths)
	case *s == nil:
		return nil
	case o.Do == "reset":
		(*s).journal.setReason(o.Why)
		return (*s).engine.reset(ctx, o.Why)
	case o.Do == "close":
		return (*s).close(ctx)
	}
	return nil
}
