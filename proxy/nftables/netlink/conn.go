package netlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/proxy/nftables"
)

// socketBuffer is the size of both buffers of the socket: a whole transaction
// is sent at once, and an error or acknowledgement that does not fit is lost.
const socketBuffer = 64 << 20

// patience is how long a datagram of a reply may take.
const patience = 30 * time.Second

// conn is a netlink socket to nfnetlink. After any error it is thrown away,
// because unread replies may be left on it.
type conn struct {
	nl    *netlink.Conn
	netns int // as dial got it
	raw   syscall.RawConn
	seq   uint32
	buf   []byte

	families []*nftables.Family // that the kernel has rules for

	patience time.Duration
}

// dial opens a socket in a network namespace, 0 for our own, with buffers of
// so many bytes.
func dial(netns, buffer int) (*conn, error) {
	nl, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: netns})
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	c := &conn{nl: nl, netns: netns, seq: 1, buf: make([]byte, 64<<10), patience: patience, families: nftables.Families}
	if c.raw, err = nl.SyscallConn(); err == nil {
		err = c.setOptions(buffer)
	}
	if err != nil {
		return nil, errors.Join(err, nl.Close())
	}
	return c, nil
}

func (c *conn) setOptions(buffer int) error {
	var err error
	ctrl := c.raw.Control(func(fd uintptr) {
		// Past rmem_max, which NET_ADMIN may do: an error that does not fit is lost.
		for _, opt := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
			if e := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, opt, buffer); e != nil {
				err = fmt.Errorf("set the netlink socket's buffers: %w", explain(e))
			}
		}
	})
	for _, opt := range []netlink.ConnOption{netlink.ExtendedAcknowledge, netlink.CapAcknowledge} {
		err = errors.Join(err, c.nl.SetOption(opt, true))
	}
	return errors.Join(err, ctrl)
}

func (c *conn) close() { _ = c.nl.Close() }

// explain says what a bare error number means here.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w (the capability NET_ADMIN is missing)", err)
	}
	return err
}

// send writes one datagram; the kernel has acted on it when it returns.
func (c *conn) send(b []byte) error {
	var err error
	werr := c.raw.Write(func(fd uintptr) bool {
		err = unix.Sendto(int(fd), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		return !errors.Is(err, unix.EAGAIN)
	})
	if err == nil {
		err = werr
	}
	if err != nil {
		return fmt.Errorf("send %d bytes: %w", len(b), err)
	}
	return nil
}

// receive reads one datagram of at most 64 KiB (the kernel fills dumps up to
// the reader's buffer). Without wait it returns nothing if there is none.
func (c *conn) receive(wait bool) ([]byte, error) {
	var n int
	var err error
	rerr := c.raw.Read(func(fd uintptr) bool {
		n, _, err = unix.Recvfrom(int(fd), c.buf, unix.MSG_DONTWAIT)
		return err != unix.EAGAIN || !wait
	})
	switch {
	case err == unix.EAGAIN && !wait:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("receive: %w", err)
	case rerr != nil:
		return nil, fmt.Errorf("receive: %w", rerr)
	}
	return c.buf[:n], nil
}

// message is a received netlink message.
type message struct {
	typ, flags uint16
	seq        uint32
	family     byte
	data       []byte // after the nfgenmsg, or after the header for errors
}

// messages splits a datagram.
func messages(b []byte, yield func(message) error) error {
	for len(b) >= unix.NLMSG_HDRLEN {
		n := int(binary.NativeEndian.Uint32(b))
		// A length of 0 would be read for ever.
		if n < unix.NLMSG_HDRLEN || n > len(b) {
			return fmt.Errorf("a netlink message of %d bytes in %d", n, len(b))
		}
		m := message{
			typ: binary.NativeEndian.Uint16(b[4:]), flags: binary.NativeEndian.Uint16(b[6:]),
			seq: binary.NativeEndian.Uint32(b[8:]), data: b[unix.NLMSG_HDRLEN:n],
		}
		if m.typ >= unix.NLMSG_MIN_TYPE && len(m.data) >= 4 {
			m.family, m.data = m.data[0], m.data[4:]
		}
		if err := yield(m); err != nil {
			return err
		}
		b = b[min(len(b), (n+3)&^3):]
	}
	return nil
}

// errInterrupted says that what is dumped, or in nftables any table, changed meanwhile.
var errInterrupted = errors.New("a list changed while it was read")

// get sends one request and passes every reply to yield. With dump it reads
// until the end of the dump.
func (c *conn) get(ctx context.Context, typ uint16, family byte, dump bool, attrs func(*batch), yield func(message) error) error {
	b := &batch{table: nftables.TableName, seq: c.seq, requests: map[uint32]*request{}}
	flags := uint16(0)
	if dump {
		flags = unix.NLM_F_DUMP
	}
	end := b.message(typ, flags, family, "get")
	attrs(b)
	end()
	seq := c.seq
	// The next request has a number of its own, so that replies to this one that come late are known.
	c.seq++
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := c.send(b.buf); err != nil {
		return err
	}
	err := c.replies(seq, dump, yield)
	// The deadline is that of this request. If it stayed, reading what the kernel answers
	// to a later transaction would fail, although that one is in force.
	if cleared := c.nl.SetReadDeadline(time.Time{}); err == nil {
		err = cleared
	}
	return err
}

// replies reads what the kernel answers to request seq.
func (c *conn) replies(seq uint32, dump bool, yield func(message) error) error {
	interrupted := false
	for done := false; !done; {
		// A reply that never comes must not stop the agent forever.
		if err := c.nl.SetReadDeadline(time.Now().Add(c.patience)); err != nil {
			return err
		}
		data, err := c.receive(true)
		if err != nil {
			return err
		}
		err = messages(data, func(m message) error {
			if m.seq != seq {
				return nil // left over of a request that failed
			}
			// The kernel dumps in several datagrams, and a transaction may come in
			// between. Each message after that says so, and the dump still ends. This
			// loop reads to the end, or the next request would read the rest.
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			endOfDump, failed := m.typ == unix.NLMSG_DONE, m.typ == unix.NLMSG_ERROR
			onlyReply := !dump // no message follows that ends it
			done = done || endOfDump || failed || onlyReply
			switch {
			case failed:
				return errnoOf(m.data)
			case endOfDump:
				return nil
			}
			return yield(m)
		})
		if err != nil {
			return err
		}
	}
	if interrupted {
		return errInterrupted
	}
	return nil
}

// errnoOf returns the error in an NLMSG_ERROR, nil for an acknowledgement.
func errnoOf(data []byte) error {
	if len(data) < 4 {
		return errors.New("a netlink error without a number")
	}
	if n := int32(binary.NativeEndian.Uint32(data)); n != 0 {
		return unix.Errno(-n)
	}
	return nil
}

// commit ends a batch, sends it and reads all replies. Nothing of it is in
// force after an error that the kernel replied.
func (c *conn) commit(b *batch) error {
	last := b.finish()
	c.seq = b.seq
	// A list that is too long for its attribute would lose its tail without an error.
	if b.err != nil {
		return b.err
	}
	if err := c.send(b.buf); err != nil {
		return err
	}
	return c.outcome(b, last)
}

// errUnanswered is that of a transaction that may be in force.
var errUnanswered = errors.New("the kernel did not acknowledge the transaction")

// outcome reads what the kernel answers to a batch. last is the request that it
// acknowledges.
func (c *conn) outcome(b *batch, last uint32) error {
	acked, failed := false, error(nil)
	for {
		// The kernel has queued all replies when send returns: there is nothing to
		// wait for.
		data, err := c.receive(false)
		if err != nil {
			return fmt.Errorf("%w: %w", errUnanswered, err)
		}
		if data == nil {
			break
		}
		err = messages(data, func(m message) error {
			if m.typ != unix.NLMSG_ERROR {
				return nil
			}
			err := errnoOf(m.data)
			// Only the last request asks for an acknowledgement, so that the replies to
			// thousands do not overflow the socket's buffer.
			acked = acked || err == nil && m.seq == last
			// The first error is the cause. Those after it may only follow from it, such
			// as an element of a set that was refused.
			if err != nil && failed == nil {
				failed = b.explainFailure(m, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	// An error that does not fit the socket's buffer is lost. The acknowledgement
	// comes last and is lost with it.
	if failed == nil && !acked {
		failed = fmt.Errorf("%w: %w", errUnanswered, unix.ENOBUFS)
	}
	return failed
}

// explainFailure says which request failed, and which element if the kernel names it.
func (b *batch) explainFailure(m message, err error) error {
	req := b.requests[m.seq]
	if req == nil {
		return explain(err)
	}
	what := req.what
	text, off := extack(m)
	for i := len(req.offs) - 1; i >= 0 && off > 0; i-- {
		if req.offs[i] <= off {
			e := req.elems[i]
			what += " element " + hexWords(e.Key)
			break
		}
	}
	if text != "" {
		return fmt.Errorf("%s: %w: %s", what, explain(err), text)
	}
	return fmt.Errorf("%s: %w", what, explain(err))
}

// hexWords prints a key in registers of 4 bytes, as nft --debug=netlink does.
func hexWords(key string) string {
	var words []string
	for ; len(key) > 4; key = key[4:] {
		words = append(words, fmt.Sprintf("%x", key[:4]))
	}
	return strings.Join(append(words, fmt.Sprintf("%x", key)), " ")
}

// extack returns the message and the offset of the attribute that the kernel
// blames, "" and 0 where it says nothing.
func extack(m message) (string, uint32) {
	const ackHeader = 4 + unix.NLMSG_HDRLEN
	if m.flags&unix.NLM_F_ACK_TLVS == 0 || len(m.data) < ackHeader {
		return "", 0
	}
	var text string
	var off uint32
	for typ, v := range attributes(m.data[ackHeader:]) {
		switch typ {
		case unix.NLMSGERR_ATTR_MSG:
			text = cstring(v)
		case unix.NLMSGERR_ATTR_OFFS:
			if len(v) == 4 {
				off = binary.NativeEndian.Uint32(v)
			}
		}
	}
	return text, off
}
