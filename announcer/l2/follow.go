package l2

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/nftevents"
)

// restFactor is how often the time of a repair passes before the next one. Somebody
// who removes the table all the time must not keep the agent busy.
const restFactor = 9

// listen returns a socket for the kernel's events about tables of ours that answer.
func (as answers) listen() (*netlink.Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: as.netns})
	if err != nil {
		return nil, fmt.Errorf("watch nftables: %w", err)
	}
	const buffer = 8 << 20 // overflows where others write much: then it may have been removed
	// The kernel itself, which is port 0, takes out the chain of a link that is gone.
	filter, err := nftevents.Filter(0, unix.NFPROTO_NETDEV)
	if err := errors.Join(err, c.SetBPF(filter), c.SetReadBuffer(buffer), c.JoinGroup(unix.NFNLGRP_NFTABLES)); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("watch nftables: %w", err)
	}
	return c, nil
}

// followTable calls tampered whenever another process takes something out of the table of
// answers, or may have, until ctx ends.
func (as answers) followTable(ctx context.Context, tampered func()) error {
	c, err := as.listen()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })()
	for ctx.Err() == nil {
		msgs, err := c.Receive()
		switch {
		// Events were lost, that of a removal perhaps among them.
		case errors.Is(err, unix.ENOBUFS):
			tampered()
		case err != nil && ctx.Err() == nil:
			return fmt.Errorf("watch nftables: %w", err)
		}
		if slices.ContainsFunc(msgs, func(m netlink.Message) bool {
			// Each renewal takes elements out itself.
			return as.removesAnswers(m) && !as.own.has(m.Header.PID)
		}) {
			tampered()
		}
	}
	return nil
}

// removesAnswers reports whether an event says that something went from the table of
// answers, or the table itself.
func (as answers) removesAnswers(m netlink.Message) bool {
	const header = 4 // of nfnetlink: the family, the version, and two bytes more
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < header || m.Data[0] != unix.NFPROTO_NETDEV {
		return false
	}
	switch m.Header.Type & 0xff {
	case unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE, unix.NFT_MSG_DELSET, unix.NFT_MSG_DELSETELEM:
	default:
		return false
	}
	attrs, err := netlink.NewAttributeDecoder(m.Data[header:])
	if err != nil {
		return false
	}
	for attrs.Next() {
		if attrs.Type() == unix.NFTA_TABLE_NAME { // has the same number in all of these
			return attrs.String() == string(as.owner)
		}
	}
	return false
}

// ownPorts are the netlink ports of this process's last sockets. An event says which port
// caused it. A nil value knows none.
type ownPorts struct {
	mu   sync.Mutex
	last [256]uint32
	next int
}

// add notes the port of c.
func (p *ownPorts) add(c *netlink.Conn) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[p.next], p.next = c.PID(), (p.next+1)%len(p.last)
}

func (p *ownPorts) has(port uint32) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.last[:], port)
}

// follow has the table of answers repaired at once when somebody removes something from
// it: the renewal would only do it seconds later. It returns when ctx ends.
func (ls *Leases) follow(ctx context.Context) {
	err := ls.answers.followTable(ctx, func() {
		ls.mu.Lock()
		ls.tampered = true
		due := time.Now()
		// Somebody who removes the table all the time must not keep the agent busy.
		if due.Before(ls.rest) {
			due = ls.rest
		}
		ls.mu.Unlock()
		ls.retryBy(due)
		ls.wake()
	})
	if err != nil {
		ls.log.Warn("cannot watch nftables: repairs what others remove at the next renewal only", "error", err)
	}
}

// repairs reports whether this Sync has to look for the table of answers. All that is
// held is told to the kernel again then.
func (ls *Leases) repairs(now time.Time) bool {
	ls.mu.Lock()
	due := ls.tampered && !now.Before(ls.rest)
	if due {
		ls.tampered = false
	} else if ls.tampered {
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
