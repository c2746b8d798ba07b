package nftables

import (
	"context"
	"time"

	"github.com/fairlead/fairlead/proxy"
)

// leftover is what a Sync makes wrong outside of the tables: clients that an
// affinity set remembers for an endpoint that moved, and flows to endpoints that
// went. What could not be cleaned stays here until the next Sync.
type leftover struct {
	clients []stale
	flows   map[proxy.Key]bool      // Frontends, also former ones, with UDP flows that may be stale
	dials   map[proxy.Key]time.Time // Frontends with connections that may stay unanswered, and when to look
}

// due takes the Frontends out of l.dials that are due at now, and returns when the
// next ones are; zero: none.
func (l *leftover) due(now time.Time) (keys map[proxy.Key]bool, next time.Time) {
	keys = map[proxy.Key]bool{}
	for k, at := range l.dials {
		switch {
		case !now.Before(at):
			keys[k] = true
			delete(l.dials, k)
		case next.IsZero() || at.Before(next):
			next = at
		}
	}
	return keys, next
}

// after cleans up behind a Sync that succeeded. A failure is no failure of the
// Sync, because the Table is in force: it is logged and tried again next time.
func (e *Engine) after(ctx context.Context, s *step) {
	left := &e.left
	if left.flows == nil {
		left.flows = map[proxy.Key]bool{}
	}
	left.clients = append(left.clients, staleClients(s.changes)...)
	udpChanges(s.changes, left.flows)
	if left.dials == nil {
		left.dials = map[proxy.Key]time.Time{}
	}
	tcpChanges(s.changes, time.Now(), left.dials)
	if len(left.clients) > 0 {
		if err := e.forgetClients(ctx); err != nil {
			e.opt.Log.Warn("Could not forget the clients of removed endpoints, will try again", "err", err)
			e.Close()
		} else {
			left.clients = nil
		}
	}
	if len(left.flows) > 0 {
		if err := e.endFlows(ctx); err != nil {
			e.opt.Log.Warn("Could not end UDP flows to removed endpoints, will try again", "err", err)
			e.Close()
		} else {
			left.flows = nil
		}
	}
	s.change.Again = e.endUnanswered(ctx, time.Now())
}

// endUnanswered ends the connections that removed endpoints have not answered, as
// far as that is due, and returns when to look again. A failure is not
// tried again: the client does, from another port.
func (e *Engine) endUnanswered(ctx context.Context, now time.Time) (again time.Time) {
	keys, again := e.left.due(now)
	if len(keys) == 0 {
		return again
	}
	err := e.connect()
	n := 0
	if err == nil {
		n, err = e.conn.endUnanswered(ctx, e.state.table, keys)
	}
	if err != nil {
		e.opt.Log.Warn("Could not end connections that removed endpoints do not answer: their clients have to try anew", "err", err)
		e.Close()
	}
	if n > 0 {
		e.opt.Log.Debug("Ended connections that removed endpoints do not answer", "connections", n)
	}
	return again
}

// endFlows ends the stale flows to left.flows.
func (e *Engine) endFlows(ctx context.Context) error {
	if err := e.connect(); err != nil {
		return err
	}
	n, err := e.conn.endFlows(ctx, e.state.table, e.left.flows)
	if n > 0 {
		e.opt.Log.Debug("Ended UDP flows to removed endpoints", "flows", n)
	}
	return err
}

// forgetClients purges left.clients.
func (e *Engine) forgetClients(ctx context.Context) error {
	if err := e.connect(); err != nil {
		return err
	}
	wrote, err := e.conn.purge(ctx, e.left.clients, e.state.specs)
	if err != nil || !wrote {
		return err
	}
	gen, err := e.conn.generation(ctx)
	if gen == e.state.generation+1 {
		e.state.generation = gen // that was our own transaction
		e.ours(gen)
	}
	return err
}
