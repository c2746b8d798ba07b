package speaker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/announcer/bgp/gobgp"
)

// dial opens a Wire to p.
func dial(ctx context.Context, p bgp.Peer) (gobgp.Wire, error) {
	router, err := connect(ctx, p)
	if err != nil {
		return gobgp.Wire{}, err
	}
	inner, outer, err := loop(ctx)
	if err != nil {
		return gobgp.Wire{}, errors.Join(err, router.Close())
	}
	return gobgp.Wire{Router: router, Inner: inner, Outer: outer}, nil
}

// connect connects to p with everything that its socket needs.
func connect(ctx context.Context, p bgp.Peer) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: max(p.Connect, time.Second), Control: func(_, _ string, raw syscall.RawConn) error { return prepare(raw, p, true) }}
	if p.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.Source, 0))
	}
	conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(p.Addr, p.Port).String())
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return asTCP(conn)
}

func asTCP(conn net.Conn) (*net.TCPConn, error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("a connection of type %T", conn), conn.Close())
	}
	return tcp, nil
}

// welcome prepares a connection that the router opened. The error says why it is not
// one of p's.
func welcome(conn *net.TCPConn, p bgp.Peer) error {
	if at := addrOf(conn.LocalAddr()).WithZone(""); p.Source.IsValid() && at != p.Source {
		return fmt.Errorf("the router connects to %s, and not to %s", at, p.Source)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return prepare(raw, p, false) // the listening socket has the password
}

// prepare sets TTL and password of a socket to p. A router of another AS is on the
// link unless p says otherwise, so packets to it go no farther than one hop.
func prepare(raw syscall.RawConn, p bgp.Peer, password bool) error {
	ttl, least := int(p.Multihop), 0
	switch {
	case p.TTLSecurity > 0: // a packet loses one at every hop but the last
		ttl, least = 255, 256-int(p.TTLSecurity)
	// A router of the same AS may be hops away.
	case p.Internal():
	default:
		ttl = cmp.Or(ttl, 1)
	}
	level, ttlOption, leastOption := unix.IPPROTO_IP, unix.IP_TTL, unix.IP_MINTTL
	if p.Addr.Is6() {
		level, ttlOption, leastOption = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_MINHOPCOUNT
	}
	var errs []error
	err := raw.Control(func(fd uintptr) {
		if ttl > 0 {
			errs = append(errs, unix.SetsockoptInt(int(fd), level, ttlOption, ttl))
		}
		if least > 0 {
			errs = append(errs, unix.SetsockoptInt(int(fd), level, leastOption, least))
		}
		if password && p.Password != "" {
			errs = append(errs, sign(int(fd), p.Addr, p.Password))
		}
	})
	return errors.Join(append(errs, err)...)
}

// sign has a socket's connections with addr signed (RFC 2385), or no longer if the
// password is empty. It is at most 80 bytes long.
func sign(fd int, addr netip.Addr, password string) error {
	sig := unix.TCPMD5Sig{Keylen: uint16(len(password))}
	copy(sig.Key[:], password)
	if addr.Is4() {
		sig.Addr.Family = unix.AF_INET
		ip := addr.As4()
		copy(sig.Addr.Data[2:], ip[:]) // after the port, as in sockaddr_in
	} else {
		sig.Addr.Family = unix.AF_INET6
		ip := addr.As16()
		copy(sig.Addr.Data[6:], ip[:]) // after port and flow, as in sockaddr_in6
	}
	return unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, &sig)
}

// loop is a TCP connection of this process with itself: gobgp takes in nothing else.
func loop(ctx context.Context) (inner, outer *net.TCPConn, err error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, nil, fmt.Errorf("loopback: %w", err)
	}
	defer func() { _ = l.Close() }()
	var d net.Dialer
	out, err := d.DialContext(ctx, "tcp4", l.Addr().String())
	if err != nil {
		return nil, nil, fmt.Errorf("loopback: %w", err)
	}
	for {
		in, err := l.Accept()
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("loopback: %w", err), out.Close())
		}
		if in.RemoteAddr().String() != out.LocalAddr().String() {
			_ = in.Close() // another program of the node
			continue
		}
		inner, errIn := asTCP(in)
		outer, errOut := asTCP(out)
		return inner, outer, errors.Join(errIn, errOut)
	}
}
