package netlink

import (
	"context"

	"github.com/fairlead/fairlead/proxy/nftables"
)

// after has the affinity sets forget the clients of endpoints that moved. A failure is
// not a failure of the Sync, because the Table is in force: it is logged and tried
// again next time.
func (e *Engine) after(ctx context.Context, patches []*nftables.Patch) {
	e.left.Add(patches)
	if len(e.left) == 0 {
		return
	}
	if err := e.forgetClients(ctx); err != nil {
		e.opt.Log.Warn("Could not forget the clients of removed endpoints, will try again", "err", err)
		e.disconnect()
		return
	}
	e.left = nil
}

// forgetClients purges the clients of e.left.
func (e *Engine) forgetClients(ctx context.Context) error {
	if err := e.connect(); err != nil {
		return err
	}
	return e.conn.purge(ctx, e.left, e.ruleset)
}
