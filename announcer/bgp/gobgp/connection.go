package gobgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// The process of a session opens no connection: its parent does, and passes it through a
// Unix socket. A message there is a Wire's three descriptors, or the text that says why
// there are none. What the process writes there are requests for a Wire, a byte each.

// Wire is a connection with the router. gobgp takes in connections of this host with
// itself alone, so two more are the ends of one of those.
type Wire struct{ Router, Inner, Outer *net.TCPConn }

// Close closes all three.
func (w Wire) Close() {
	for _, conn := range []*net.TCPConn{w.Router, w.Inner, w.Outer} {
		if conn != nil {
			_ = conn.Close()
		}
	}
}

// longestRefusal is how many bytes the text of a Refuse may have.
const longestRefusal = 1024

// Pass gives w, which stays open here too, to the process at the other end of to.
func Pass(to *net.UnixConn, w Wire) error {
	files := make([]int, 0, 3)
	defer func() {
		for _, fd := range files {
			_ = unix.Close(fd)
		}
	}()
	for _, conn := range []*net.TCPConn{w.Router, w.Inner, w.Outer} {
		fd, err := duplicate(conn)
		if err != nil {
			return fmt.Errorf("pass a connection: %w", err)
		}
		files = append(files, fd)
	}
	if _, _, err := to.WriteMsgUnix([]byte{0}, unix.UnixRights(files...), nil); err != nil {
		return fmt.Errorf("pass a connection: %w", err)
	}
	return nil
}

// duplicate returns another descriptor of conn.
func duplicate(conn *net.TCPConn) (fd int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Control(func(own uintptr) { fd, failed = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(err, failed)
}

// Refuse tells the process at the other end of to why it gets no connection.
func Refuse(to *net.UnixConn, why error) error {
	text := []byte(why.Error())
	if _, err := to.Write(text[:min(len(text), longestRefusal)]); err != nil {
		return fmt.Errorf("refuse a connection: %w", err)
	}
	return nil
}

// Requested waits until the process at the other end of from asks for a connection.
func Requested(from *net.UnixConn) error {
	n, err := from.Read(make([]byte, 1))
	if err == nil && n == 0 {
		return net.ErrClosed // the end of a socket of messages
	}
	return err
}

// receivePassed puts what the parent says into in until the other end goes, or ctx ends.
func receivePassed(ctx context.Context, from *net.UnixConn, in *inbox) {
	defer context.AfterFunc(ctx, func() { _ = from.Close() })()
	for {
		w, refusal, err := next(from)
		if err != nil {
			return
		}
		in.put(delivery{w, refusal})
	}
}

// next is the next Wire, or why there is none.
func next(from *net.UnixConn) (w Wire, refusal, err error) {
	text, oob := make([]byte, longestRefusal), make([]byte, unix.CmsgSpace(3*4))
	n, rights, _, _, err := from.ReadMsgUnix(text, oob)
	switch {
	case err != nil:
		return w, nil, err
	case n == 0:
		return w, nil, net.ErrClosed
	case rights == 0:
		return w, errors.New(string(text[:n])), nil
	}
	w, refusal = wireOf(oob[:rights])
	return w, refusal, nil
}

// wireOf makes a Wire of the descriptors in a control message.
func wireOf(control []byte) (w Wire, err error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) != 1 {
		return w, fmt.Errorf("a connection that cannot be read: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return w, fmt.Errorf("a connection that cannot be read: %w", err)
	}
	var conns []*net.TCPConn
	for _, fd := range fds {
		conn, err := tcpOf(fd)
		if err != nil {
			return w, err
		}
		conns = append(conns, conn)
	}
	if len(conns) != 3 {
		return w, fmt.Errorf("a connection of %d parts", len(conns))
	}
	return Wire{conns[0], conns[1], conns[2]}, nil
}

func tcpOf(fd int) (*net.TCPConn, error) {
	file := os.NewFile(uintptr(fd), "connection")
	defer func() { _ = file.Close() }() // FileConn has its own
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("a connection that cannot be used: %w", err)
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("a connection of type %T", conn), conn.Close())
	}
	return tcp, nil
}

// addrOf is the address of a, without a zone.
func addrOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
