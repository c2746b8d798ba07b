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
	flows   map[proxy.Key]bool // Frontends, also former ones, with flows that may be stale
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
