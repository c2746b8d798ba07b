package nftables

import (
	"context"
)

// after does what follows a Sync that succeeded: forget clients and flows that
// the new Table makes wrong. What fails here is logged and tried again after
// the next Sync, because the Table itself is in force.
func (e *Engine) after(ctx context.Context, s *step) {
	e.stale = append(e.stale, staleClients(s.changes)...)
	if len(e.stale) == 0 {
		return
	}
	if err := e.purge(ctx); err != nil {
		e.opt.Log.Warn("Could not forget clients of removed endpoints, will try again", "err", err)
		e.Close()
		return
	}
	e.stale = nil
}

func (e *Engine) purge(ctx context.Context) error {
	if err := e.connect(); err != nil {
		return err
	}
	wrote, err := e.conn.purge(ctx, e.stale, e.state.specs)
	if err != nil || !wrote {
		return err
	}
	gen, err := e.conn.generation(ctx)
	if gen == e.state.generation+1 {
		e.state.generation = gen // that was our own transaction
	}
	return err
}
