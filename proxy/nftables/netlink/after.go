package netlink

import (
	"context"
	"time"

	"github.com/fairlead/fairlead/proxy/nftables"
)

// after cleans up behind a Sync that succeeded, and returns when to look again. A
// failure is not a failure of the Sync, because the Table is in force: it is logged
// and tried again next time.
func (e *Engine) after(ctx context.Context, patches []*nftables.Patch) (again time.Time) {
	left := &e.left
	left.Add(patches, time.Now())
	if len(left.Clients) > 0 {
		if err := e.forgetClients(ctx); err != nil {
			e.opt.Log.Warn("Could not forget the clients of removed endpoints, will try again", "err", err)
			e.Close()
		} else {
			left.Clients = nil
		}
	}
	if len(left.Flows) > 0 {
		if err := e.endFlows(ctx); err != nil {
			e.opt.Log.Warn("Could not end UDP flows to removed endpoints, will try again", "err", err)
			e.Close()
		} else {
			left.Flows = nil
		}
	}
	return e.endUnanswered(ctx, time.Now())
}

// endUnanswered ends the connections that removed endpoints have not answered, as
// far as that is due, and returns when to look again. A failure is not
// tried again: the client does, from another port.
func (e *Engine) endUnanswered(ctx context.Context, now time.Time) (again time.Time) {
	keys, again := e.left.Due(now)
	if len(keys) == 0 {
		return again
	}
	err := e.connect()
	n := 0
	if err == nil {
		n, err = e.conn.endUnanswered(ctx, e.ruleset.Table, keys)
	}
	if err != nil {
		e.opt.Log.Warn("Could not end connections that removed endpoints do not answer: their clients must connect again", "err", err)
		e.Close()
	}
	if n > 0 {
		e.opt.Log.Debug("Ended connections that removed endpoints do not answer", "connections", n)
	}
	return again
}

// endFlows ends the stale flows of e.left.
func (e *Engine) endFlows(ctx context.Context) error {
	if err := e.connect(); err != nil {
		return err
	}
	n, err := e.conn.endFlows(ctx, e.ruleset.Table, e.left.Flows)
	if n > 0 {
		e.opt.Log.Debug("Ended UDP flows to removed endpoints", "flows", n)
	}
	return err
}

// forgetClients purges the clients of e.left.
func (e *Engine) forgetClients(ctx context.Context) error {
	if err := e.connect(); err != nil {
		return err
	}
	wrote, err := e.conn.purge(ctx, e.left.Clients, e.ruleset)
	if err != nil || !wrote {
		return err
	}
	gen, err := e.conn.generation(ctx)
	if gen == e.generation+1 {
		e.generation = gen // that was our own transaction
		e.ours(gen)
	}
	return err
}
