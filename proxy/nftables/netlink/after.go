package netlink

import "context"

// after has the affinity sets forget clients where they were. A failure is not a
// failure of the Sync, because the Table is in force: it is logged. Those clients are
// forgotten by their timeout.
func (e *Engine) after(ctx context.Context, clients []client) {
	if err := e.conn.forget(ctx, clients); err != nil {
		e.opt.Log.Warn("Could not forget the clients of removed endpoints", "err", err)
		e.disconnect()
	}
}
