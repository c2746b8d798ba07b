package speaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer/bgp"
)

// listenEvery is how often a port that could not be listened on is tried again.
const listenEvery = 5 * time.Second

// listenPort is a port of this node that routers connect to, for one family.
type listenPort struct {
	v6   bool
	port uint16
}

func listenPortOf(p bgp.Peer) listenPort { return listenPort{p.Addr.Is6(), p.Port} }

// listeners wait for the routers that connect by themselves, on every port that a
// passive peer needs and at no other.
type listeners struct {
	log      *slog.Logger
	accepted func(listenPort, *net.TCPConn)

	mu     sync.Mutex
	wanted map[listenPort]map[netip.Addr]string // passwords, by the router's address
	open   map[listenPort]*listener
	failed map[listenPort]error
}

// listener is one socket and the passwords that it has (RFC 2385).
type listener struct {
	tcp       *net.TCPListener
	passwords map[netip.Addr]string
}

// sync listens where peers need it, with their passwords.
func (l *listeners) sync(peers []bgp.Peer) {
	wanted := map[listenPort]map[netip.Addr]string{}
	for _, p := range peers {
		if !p.Passive {
			continue
		}
		at := listenPortOf(p)
		if wanted[at] == nil {
			wanted[at] = map[netip.Addr]string{}
		}
		wanted[at][p.Addr] = p.Password
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted = wanted
	for at, one := range l.open {
		if wanted[at] == nil {
			_ = one.tcp.Close()
			delete(l.open, at)
		}
	}
	maps.DeleteFunc(l.failed, func(at listenPort, _ error) bool { return wanted[at] == nil })
	for at := range wanted {
		l.listen(at)
	}
}

// retry tries what failed once more, and reports whether something changed.
func (l *listeners) retry() (news bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at := range l.wanted {
		was := l.failed[at]
		l.listen(at)
		news = news || was != nil && l.failed[at] == nil
	}
	return news
}

// listen opens the socket for at, if it is not, and gives it the passwords. The
// caller holds mu.
func (l *listeners) listen(at listenPort) {
	one, err := l.open[at], error(nil)
	if one == nil {
		if one, err = listen(at); err == nil {
			l.open[at] = one
			go l.accept(at, one)
		}
	}
	if err == nil {
		err = one.trust(l.wanted[at])
	}
	if err != nil && l.failed[at] == nil {
		l.log.Error("BGP", "error", err)
	}
	if l.failed[at] = err; err == nil {
		delete(l.failed, at)
	}
}

// trouble says why p's router cannot connect, or nothing.
func (l *listeners) trouble(p bgp.Peer) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.failed[listenPortOf(p)]; err != nil {
		return err.Error()
	}
	return ""
}

// accept takes connections in until the socket is closed. One that fails by itself
// is opened again by retry.
func (l *listeners) accept(at listenPort, one *listener) {
	for {
		conn, err := one.tcp.AcceptTCP()
		if err == nil {
			l.accepted(at, conn)
			continue
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.open[at] == one {
			_ = one.tcp.Close()
			delete(l.open, at)
			l.failed[at] = fmt.Errorf("accept on port %d: %w", at.port, err)
		}
		return
	}
}

func listen(at listenPort) (*listener, error) {
	network, level, option := "tcp4", unix.IPPROTO_IP, unix.IP_TTL
	if at.v6 {
		network, level, option = "tcp6", unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
	}
	// A router with GTSM takes an answer with the full TTL only (RFC 5082).
	far := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var set error
		err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), level, option, 255) })
		return errors.Join(err, set)
	}}
	far.SetMultipathTCP(false) // it knows no passwords
	l, err := far.Listen(context.Background(), network, ":"+strconv.Itoa(int(at.port)))
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("listen on port %d: another program on this node has it", at.port)
	case errors.Is(err, unix.EACCES):
		return nil, fmt.Errorf("listen on port %d: the agent may not; the chart's bgp.passive lets it", at.port)
	case err != nil:
		return nil, fmt.Errorf("listen on port %d: %w", at.port, err)
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("listen on port %d: not TCP", at.port), l.Close())
	}
	return &listener{tcp: tcp, passwords: map[netip.Addr]string{}}, nil
}

// trust makes passwords those that connections must be signed with, and others
// must not.
func (l *listener) trust(passwords map[netip.Addr]string) error {
	// The kernel keeps the password of a peer that is gone until it is given an empty one.
	for addr := range l.passwords {
		if _, ok := passwords[addr]; !ok {
			passwords = maps.Clone(passwords)
			passwords[addr] = ""
		}
	}
	for addr, password := range passwords {
		if l.passwords[addr] == password {
			continue
		}
		if err := l.sign(addr, password); err != nil {
			return fmt.Errorf("password of %s: %w", addr, err)
		}
		if l.passwords[addr] = password; password == "" {
			delete(l.passwords, addr)
		}
	}
	return nil
}

// sign has connections with addr signed, or no more if there is no password.
func (l *listener) sign(addr netip.Addr, password string) error {
	raw, err := l.tcp.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = sign(int(fd), addr, password) })
	return errors.Join(err, set)
}

// addrOf is the address of a, with its zone.
func addrOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
