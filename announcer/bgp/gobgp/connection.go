package gobgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Pass gives conn, which stays open here too, to the process at the other end of
// to, a Unix socket.
func Pass(to *net.UnixConn, conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("pass a connection: %w", err)
	}
	var sent error
	err = raw.Control(func(fd uintptr) {
		_, _, sent = to.WriteMsgUnix([]byte{0}, unix.UnixRights(int(fd)), nil)
	})
	if err := errors.Join(err, sent); err != nil {
		return fmt.Errorf("pass a connection: %w", err)
	}
	return nil
}

// receivePassed puts what is passed into in until the other end goes, or ctx ends.
func receivePassed(ctx context.Context, from *net.UnixConn, in *inbox) {
	defer context.AfterFunc(ctx, func() { _ = from.Close() })()
	for {
		conn, err := next(from)
		if err != nil {
			return
		}
		if conn != nil {
			in.put(conn)
		}
	}
}

// next is the next connection, or nil if what came is none.
func next(from *net.UnixConn) (*net.TCPConn, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := from.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return nil, err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, err
	}
	file := os.NewFile(uintptr(fds[0]), "router")
	defer func() { _ = file.Close() }() // FileConn has its own
	conn, err := net.FileConn(file)
	tcp, ok := conn.(*net.TCPConn)
	if err != nil || !ok {
		return nil, nil
	}
	return tcp, nil
}
