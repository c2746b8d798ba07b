package netlink

import (
	"context"
	"errors"
	"fmt"
	gosync "sync"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/nftevents"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// watchBuffer bounds what the kernel queues of other programs' changes: 100,000 elements
// in one transaction fit. When it overflows, the next Sync reads our tables.
const watchBuffer = 8 << 20

// groupNFTables is NFNLGRP_NFTABLES.
const groupNFTables = 7

// watch learns from the kernel's events whether somebody else wrote to our tables.
// Other tables are not its business, and neither is the generation of the ruleset.
type watch struct {
	conn    *conn
	changed func() // called in a goroutine, when touched becomes true there
	done    chan struct{}

	mu      gosync.Mutex
	heard   int   // datagrams
	touched bool  // somebody else wrote to our tables since take was last called
	err     error // why the watch ended; nil while it works
}

// openWatch subscribes to the events of a network namespace, 0 for our own. What is
// read afterwards can be relied on until take says otherwise.
func openWatch(netns int, changed func()) (*watch, error) {
	c, err := dial(netns, watchBuffer)
	if err != nil {
		return nil, err
	}
	// Before the tables are read: what is written between the two would be missed.
	if err := c.nl.JoinGroup(groupNFTables); err != nil {
		c.close()
		return nil, fmt.Errorf("watch the ruleset: %w", explain(err))
	}
	w := &watch{conn: c, changed: changed, done: make(chan struct{})}
	go w.run()
	return w, nil
}

// close ends the watch and returns when its goroutine has ended.
func (w *watch) close() {
	w.conn.close()
	<-w.done
}

// ignore has the kernel leave out what the socket of c writes, and what concerns others
// alone.
func (w *watch) ignore(c *conn) error {
	filter, err := nftevents.Filter(c.nl.PID(), packet4.nfproto, packet6.nfproto)
	if err == nil {
		err = w.conn.nl.SetBPF(filter)
	}
	if err != nil {
		return fmt.Errorf("watch the ruleset: %w", err)
	}
	return nil
}

// run waits for events until the watch is closed.
func (w *watch) run() {
	defer close(w.done)
	err := w.conn.raw.Read(func(fd uintptr) bool {
		news, err := w.drain(int(fd))
		if news {
			w.changed()
		}
		return err != nil
	})
	w.mu.Lock()
	w.err = errors.Join(w.err, err)
	w.mu.Unlock()
}

// take reports whether somebody else wrote to our tables since it was last called, up
// to now. After an error the watch is of no use.
func (w *watch) take() (bool, error) {
	// Not by Read, which run holds while it waits.
	err := w.conn.raw.Control(func(fd uintptr) { _, _ = w.drain(int(fd)) })
	w.mu.Lock()
	defer w.mu.Unlock()
	touched := w.touched
	w.touched = false
	if err = errors.Join(err, w.err); err != nil {
		return true, fmt.Errorf("watch the ruleset: %w", err)
	}
	return touched, nil
}

// drain reads all events that there are. It reports whether touched became true.
func (w *watch) drain(fd int) (news bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.touched
	for w.err == nil {
		n, _, err := unix.Recvfrom(fd, w.conn.buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return w.touched && !was, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS):
			// Events are lost. The kernel loses more until the queue has been empty once.
			w.touched = true
		case err != nil:
			w.touched, w.err = true, err
		default:
			w.heard++
			w.touched = w.touched || concernsUs(w.conn.buf[:n])
		}
	}
	return w.touched && !was, w.err
}

// touch has the next Sync read our tables.
func (w *watch) touch() {
	w.mu.Lock()
	w.touched = true
	w.mu.Unlock()
	w.changed()
}

// manyElements is from how many elements on a transaction of ours is unheard.
const manyElements = 5000

// unheard calls write, which returns how many transactions it took, while the watch
// hears nothing. For a listener the kernel makes a message of 4 KiB for each element,
// and keeps all until the transaction is done: over 1 GB for 50,000 Services with 5
// endpoints. If somebody else wrote to any table meanwhile, the next Sync reads ours.
func (e *Engine) unheard(ctx context.Context, write func() (transactions int, err error)) error {
	before, err := e.conn.generation(ctx)
	if err != nil {
		return err
	}
	if err := e.watch.conn.nl.LeaveGroup(groupNFTables); err != nil {
		return fmt.Errorf("watch the ruleset: %w", err)
	}
	n, failed := write()
	if err := e.watch.conn.nl.JoinGroup(groupNFTables); err != nil {
		e.unwatch() // the next Sync opens another one, and reads our tables
	}
	if failed != nil {
		return failed
	}
	if after, err := e.conn.generation(ctx); e.watch != nil && (err != nil || after != before+uint32(n)) {
		e.watch.touch()
	}
	return nil
}

// concernsUs reports whether a datagram of events has one of our tables.
func concernsUs(data []byte) bool {
	ours := false
	err := messages(data, func(m message) error {
		family := m.family == packet4.nfproto || m.family == packet6.nfproto
		// Attribute 1 is the table's name in every kind of message but that of a new
		// generation, which has no family.
		ours = ours || family && cstring(attribute(m.data, 1)) == nftables.TableName
		return nil
	})
	// What cannot be read may be about us.
	return ours || err != nil
}
