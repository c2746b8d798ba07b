package forwarding

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Connections are made and taken by plain system calls: what is measured is the
// kernel, and everything else that runs takes from it.

// server takes connections of all addresses of a namespace.
type server struct {
	fd   int
	quit chan struct{} // closed by stop; nil where shutting the socket down is enough
	done sync.WaitGroup
}

// startServer serves a port. It says at which address it took a connection if
// it is to answer; the client ends the connection.
func startServer(s space, port int, answer bool) (*server, error) {
	var fd int
	err := s.do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Port: port}), unix.Listen(fd, 4096))
	})
	if err != nil {
		return nil, fmt.Errorf("serve port %d: %w", port, err)
	}
	out := &server{fd: fd}
	for range 2 {
		out.done.Go(func() { out.run(answer) })
	}
	return out, nil
}

func (s *server) run(answer bool) {
	for {
		fd, _, err := unix.Accept4(s.fd, unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EBADF) {
			return // stop
		}
		if err != nil {
			continue // the client was faster
		}
		if answer {
			sayName(fd)
		}
		_ = unix.Close(fd)
	}
}

func sayName(fd int) {
	local, err := unix.Getsockname(fd)
	at, ok := local.(*unix.SockaddrInet4)
	if err != nil || !ok {
		return
	}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
	if _, err := unix.Write(fd, at.Addr[:]); err == nil {
		_, _ = unix.Read(fd, make([]byte, 1)) // until the client ends it
	}
}

func (s *server) stop() {
	if s.quit != nil {
		close(s.quit)
	}
	_ = unix.Shutdown(s.fd, unix.SHUT_RD)
	s.done.Wait()
	_ = unix.Close(s.fd)
}

// connect opens a connection, in the namespace that the caller is in, and ends
// it without leaving a trace in the client's kernel.
func connect(to netip.AddrPort, timeout time.Duration, use func(fd int) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	limit := unix.NsecToTimeval(timeout.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit))
	if err != nil {
		return err
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	if errors.Is(err, unix.EINTR) {
		err = connected(fd, timeout) // by a signal of Go's scheduler; the kernel goes on
	}
	if err != nil {
		return err
	}
	return use(fd)
}

// connected waits for a connection that was begun, and returns why it failed.
func connected(fd int, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return unix.ETIMEDOUT
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(left.Milliseconds())+1)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return err
		case n > 0:
			code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if err == nil && code != 0 {
				err = unix.Errno(code)
			}
			return err
		}
	}
}

// answerOf asks who answers at an address, in the namespace that the caller is
// in.
func answerOf(to netip.AddrPort, timeout time.Duration) (who netip.Addr, err error) {
	err = connect(to, timeout, func(fd int) error {
		var a [4]byte
		n, err := unix.Read(fd, a[:])
		if err == nil && n != len(a) {
			err = errors.New("half an answer")
		}
		who = netip.AddrFrom4(a)
		return err
	})
	return who, err
}

func accepts(to netip.AddrPort, timeout time.Duration) error {
	return connect(to, timeout, func(int) error { return nil })
}
