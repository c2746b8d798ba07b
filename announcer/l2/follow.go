package l2

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// restFactor is how often the time of a repair passes before the next one. Somebody
// who removes the table all the time must not keep the agent busy.
const restFactor = 9

// followTable calls emptied whenever somebody, this process included, removes the table
// of answers, or may have, until ctx ends.
func (as answers) followTable(ctx context.Context, emptied func()) error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: as.netns})
	if err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	defer func() { _ = c.Close() }()
	const buffer = 8 << 20 // overflows where others write much: then it may have been removed
	if err := errors.Join(c.SetReadBuffer(buffer), c.JoinGroup(unix.NFNLGRP_NFTABLES)); err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })()
	for ctx.Err() == nil {
		msgs, err := c.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			emptied()
		case err != nil && ctx.Err() == nil:
			return fmt.Errorf("watch nftables: %w", err)
		}
		for _, m := range msgs {
			if removesAnswers(m) {
				emptied()
			}
		}
	}
	return nil
}

// removesAnswers reports whether an event says that the table of answers went.
func removesAnswers(m netlink.Message) bool {
	const header = 4 // of nfnetlink: the family, the version, and two bytes more
	if m.Header.Type != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELTABLE || len(m.Data) < header || m.Data[0] != unix.NFPROTO_NETDEV {
		return false
	}
	attrs, err := netlink.NewAttributeDecoder(m.Data[header:])
	if err != nil {
		return false
	}
	for attrs.Next() {
		if attrs.Type() == unix.NFTA_TABLE_NAME {
			return attrs.String() == answerTable
		}
	}
	return false
}

// follow has the table of answers repaired at once when somebody removes it: the
// renewal would only do it seconds later. It returns when ctx ends.
func (ls *Leases) follow(ctx context.Context) {
	err := ls.answers.followTable(ctx, func() {
		ls.mu.Lock()
		ls.emptied = true
		due := time.Now()
		if due.Before(ls.rest) {
			due = ls.rest
		}
		ls.mu.Unlock()
		ls.retryBy(due)
		ls.wake()
	})
	if err != nil {
		ls.log.Warn("cannot watch nftables: what others remove is repaired at the next renewal only", "error", err)
	}
}

// repairs reports whether this Sync has to look for the table of answers. All that is
// held is told to the kernel again then.
func (ls *Leases) repairs(now time.Time) bool {
	ls.mu.Lock()
	due := ls.emptied && !now.Before(ls.rest)
	if due {
		ls.emptied = false
	} else if ls.emptied {
		ls.retryAt = ls.rest
	}
	ls.mu.Unlock()
	if due {
		for c, l := range ls.held {
			l.renewed = time.Time{}
			ls.held[c] = l
		}
	}
	return due
}

// restFrom has the next repair wait, after one that began and ended at these times.
func (ls *Leases) restFrom(began, now time.Time) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.rest = now.Add(restFactor * now.Sub(began))
}
