package nftables

import (
	"context"

	"github.com/fairlead/fairlead/proxy"
)

// leftover is what a Sync makes wrong outside of the tables: clients that an
// affinity set remembers for an endpoint that moved, and UDP flows to endpoints
// that went. What could not be cleaned stays here until the next Sync.
type leftover struct {
	clients []stale
	flows   bool               // some flow may be stale
	gone    map[proxy.Key]bool // Frontends that went, with their flows
}

// after cleans up behind a Sync that succeeded. A failure is no failure of the
// Sync, because the Table is in force: it is logged and tried again next time.
func (e *Engine) after(ctx context.Context, s *step) {
	left := &e.left
	if left.gone == nil {
		left.gone = map[proxy.Key]bool{}
	}
	left.clients = append(left.clients, staleClients(s.changes)...)
	left.flows = udpChanges(s.changes, left.gone) || left.flows
	if len(left.clients) > 0 {
		if err := e.forgetClients(ctx); err != nil {
			e.opt.Log.Warn("Could not forget the clients of removed endpoints, will try again", "err", err)
			e.Close()
		} else {
			left.clients = nil
		}
	}
	if !left.flows {
		return
	}
	n, err := deleteFlows(e.opt.Netns, func(f flow) bool { return staleFlow(f, s.now.table, left.gone) })
	if err != nil {
		e.opt.Log.Warn("Could not end UDP flows to removed endpoints, will try again", "err", err)
		return
	}
	left.flows, left.gone = false, nil
	if n > 0 {
		e.opt.Log.Debug("Ended UDP flows to removed endpoints", "flows", n)
	}
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
