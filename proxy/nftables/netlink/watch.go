package netlink

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/proxy/nftables"
)

// watchBuffer bounds what the kernel queues between two Syncs about other
// programs' changes. When it overflows we read everything again.
const watchBuffer = 1 << 20

// watch reports whether a new generation of the ruleset concerns our tables. On
// many nodes every pod start changes some other table, and reading all of
// 10,000 Services back each time would cost more than the Sync itself.
type watch struct {
	*conn
	own []uint16 // low bits of the generations that are our own doing
}

// groupNFTables is NFNLGRP_NFTABLES.
const groupNFTables = 7

func openWatch(netns int) (*watch, error) {
	c, err := dial(netns, watchBuffer)
	if err != nil {
		return nil, err
	}
	if err := c.nl.JoinGroup(groupNFTables); err != nil {
		c.close()
		return nil, fmt.Errorf("watch the ruleset: %w", explain(err))
	}
	return &watch{conn: c}, nil
}

// foreignOnly reads what happened since it was last called. It returns true if
// all of it, up to generation gen, is known and none of it is a change to our
// tables by somebody else.
func (w *watch) foreignOnly(gen uint32) bool {
	complete, touched := false, false
	for {
		data, err := w.receive(false)
		if err != nil {
			return false // ENOBUFS: some of it is lost
		}
		if data == nil {
			break
		}
		err = messages(data, func(m message) error {
			if m.typ == nft(unix.NFT_MSG_NEWGEN) {
				// Sent after all that the transaction changed.
				complete = complete || number(attribute(m.data, unix.NFTA_GEN_ID)) == gen
				return nil
			}
			// Attribute 1 is the table's name in every kind of message.
			ours := (m.family == packet4.nfproto || m.family == packet6.nfproto) && cstring(attribute(m.data, 1)) == nftables.TableName
			touched = touched || ours && !slices.Contains(w.own, m.resID)
			return nil
		})
		if err != nil {
			return false
		}
	}
	w.own = nil
	return complete && !touched
}

// unchanged reports whether the kernel still holds what the last Sync left.
func (e *Engine) unchanged(gen uint32) bool {
	foreign := e.watch != nil && e.watch.foreignOnly(gen)
	return e.ruleset != nil && (e.generation == gen || foreign)
}

// watchFrom makes sure that changes after generation gen are watched. Without
// a watch every foreign change costs a full read, and nothing else.
func (e *Engine) watchFrom(ctx context.Context, gen uint32) error {
	if e.watch != nil {
		return nil
	}
	w, err := openWatch(e.opt.Netns)
	if err != nil {
		return err
	}
	if now, err := w.generation(ctx); err != nil || now != gen {
		w.close() // what happened in between was not seen; the next Sync reads it
		return err
	}
	e.watch = w
	return nil
}

// ours says that generation gen is our own doing.
func (e *Engine) ours(gen uint32) {
	if e.watch != nil {
		e.watch.own = append(e.watch.own, uint16(gen))
	}
}

// unwatch closes the watch; the next Sync that reads everything opens another.
func (e *Engine) unwatch() {
	if e.watch != nil {
		e.watch.close()
		e.watch = nil
	}
}

// manyElements is when our own transaction would fill the watch's buffer: it is
// closed before and opened after.
const manyElements = 500
