// Package gobgp holds one BGP session, and is the only package that knows gobgp.
// It runs in a process of its own (see package speaker): gobgp v3.37.0 ends its
// process on a message of a type that it does not know (RFC 4271 section 6.1),
// which any router can send.
//
// Sessions are dialled, never listened for. What a peer announces is ignored,
// and a peer that announces more than a bounded number of prefixes is cut off.
package gobgp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
)

// Order is what the process is asked for. It answers each with an Answer.
type Order struct {
	Do       string // "announce", "status", "reset" or "close"
	RouterID netip.Addr
	Peer     bgp.Peer // announce: with the paths. Its settings stay those of the first
	Why      string   // reset: told to the peer
}

// Answer is how it stands after an Order.
type Answer struct {
	Status Status
	Error  string
}

// Status is the state of the session.
type Status struct {
	Established bool
	State       string    // as RFC 4271 section 8.2.2 spells it
	Since       time.Time // of Established or its absence
	LastError   string    // why the last session or attempt ended; "" while established
	Prefixes    int       // announced; 0 unless Established
	Updates     uint64    // UPDATE messages sent
	Flaps       uint64    // how often the session was lost
}

// Serve obeys the Orders that come in until there are no more, or one to close.
// It ends without a NOTIFICATION unless it was told to close.
func Serve(ctx context.Context, in io.Reader, out io.Writer, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	orders, answers := json.NewDecoder(in), json.NewEncoder(out)
	var s *session
	for {
		var o Order
		if err := orders.Decode(&o); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read an order: %w", err)
		}
		var a Answer
		err := obey(ctx, &s, o, log)
		if err != nil {
			a.Error = err.Error()
		}
		if s != nil && o.Do != "close" {
			a.Status = s.status()
		}
		if err := answers.Encode(a); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		if o.Do == "close" {
			return nil
		}
	}
}

func obey(ctx context.Context, s **session, o Order, log *slog.Logger) error {
	switch {
	case o.Do == "announce" && *s == nil:
		one, err := newSession(ctx, o.Peer, o.RouterID, log, func() {})
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
		(*s).journal.tell(o.Why)
		return (*s).engine.reset(ctx, (*s).peer.Addr, o.Why)
	case o.Do == "close":
		return (*s).close(ctx)
	}
	return (*s).revive(ctx)
}

// revive tries again, a minute later, with a peer that announced too much.
func (s *session) revive(ctx context.Context) error {
	if s.journal.cutOffFor() < time.Minute {
		return nil
	}
	s.journal.revived()
	return s.engine.enable(ctx, s.peer.Addr)
}
