package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long another node has to answer. A port that nobody listens
// on answers at once, too: with a reset.
const patience = 2 * time.Second

// blocked asks every other node's agent port, all at once, and lists those that
// do not answer at all.
func blocked(opt Options) []string {
	if opt.Cluster == nil {
		return nil
	}
	asked := map[int]string{} // by socket
	for _, n := range opt.Cluster.Nodes {
		if n.Name == opt.Node || !n.Ready {
			continue
		}
		for _, ip := range n.InternalIPs {
			to := netip.AddrPortFrom(ip, MemberPort)
			fd, err := begin(to)
			if err != nil {
				continue // not of a family that this node has
			}
			defer func() { _ = unix.Close(fd) }()
			asked[fd] = fmt.Sprintf("%s/tcp of node %s", to, n.Name)
		}
	}
	return unanswered(asked, time.Now().Add(patience))
}

// begin opens a socket that connects in its own time.
func begin(to netip.AddrPort) (int, error) {
	family, addr := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()})
	if to.Addr().Is4() {
		family, addr = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.Connect(fd, addr); err != nil && !errors.Is(err, unix.EINPROGRESS) && !errors.Is(err, unix.ECONNREFUSED) {
		_ = unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

// unanswered waits until every socket was answered, by whatever, or until end.
func unanswered(asked map[int]string, end time.Time) (out []string) {
	for len(asked) > 0 && time.Now().Before(end) {
		var fds []unix.PollFd
		for fd := range asked {
			fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT})
		}
		if _, err := unix.Poll(fds, int(time.Until(end).Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return nil // nothing can be said
		}
		for _, p := range fds {
			if p.Revents == 0 {
				continue
			}
			code, err := unix.GetsockoptInt(int(p.Fd), unix.SOL_SOCKET, unix.SO_ERROR)
			if err != nil || code != 0 && unix.Errno(code) != unix.ECONNREFUSED {
				out = append(out, asked[int(p.Fd)])
			}
			delete(asked, int(p.Fd))
		}
	}
	for _, what := range asked {
		out = append(out, what)
	}
	slices.Sort(out)
	return out
}
