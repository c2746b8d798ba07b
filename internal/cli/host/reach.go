package host

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// patience is how long another node has to answer. A port that nobody listens
// on answers at once, too: with a reset.
const patience = 2 * time.Second

// blocked asks every other node's agent port, and the BGP port of routers that
// this node has no session with, all at once, and lists those that do not answer at
// all.
func blocked(opt Options) []string {
	if opt.Cluster == nil {
		return nil
	}
	asked := map[int]string{} // by socket
	defer func() {
		for fd := range asked {
			_ = unix.Close(fd)
		}
	}()
	ask := func(to netip.AddrPort, whose string) {
		if fd, err := begin(to); err == nil { // else not of a family that this node has
			asked[fd] = fmt.Sprintf("%s/tcp of %s", to, whose)
		}
	}
	for _, n := range opt.Cluster.Nodes {
		if n.Name == opt.Node || !n.Ready {
			continue
		}
		for _, ip := range n.InternalIPs {
			ask(netip.AddrPortFrom(ip, MemberPort), "node "+n.Name)
		}
	}
	for _, p := range opt.Cluster.Peers {
		if ip, err := netip.ParseAddr(p.Address); err == nil && p.Port > 0 && !established(opt, p.Name) {
			ask(netip.AddrPortFrom(ip, uint16(p.Port)), "BGP peer "+p.Name)
		}
	}
	return unanswered(maps.Clone(asked), time.Now().Add(patience))
}

// established reports whether this node has a session with a peer.
func established(opt Options, peer string) bool {
	a := opt.Cluster.NodeState(opt.Node)
	return a != nil && slices.ContainsFunc(a.Peers, func(p snapshot.PeerState) bool { return p.Name == peer && p.Established() })
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
