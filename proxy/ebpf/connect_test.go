package ebpf

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// peerName is what getpeername says.
func peerName(c net.Conn) (name string, err error) {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return "", err
	}
	return name, errors.Join(raw.Control(func(fd uintptr) { name, err = peerOf(int(fd)) }), err)
}

func peerOf(fd int) (string, error) {
	sa, err := unix.Getpeername(fd)
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return fmt.Sprintf("%s:%d", net.IP(sa.Addr[:]), sa.Port), err
	case *unix.SockaddrInet6:
		return fmt.Sprintf("[%s]:%d", net.IP(sa.Addr[:]), sa.Port), err
	}
	return "", err
}

const (
	podA4, podB4 = "198.18.1.3", "198.18.1.4"
	podA6, podB6 = "fd98:0:1::3", "fd98:0:1::4"
)

func TestConnect(t *testing.T) {
	l := newLab(t)
	e := l.engine(t)
	sync(t, e, &proxy.Table{Frontends: []*proxy.Frontend{
		front("198.18.96.1", snapshot.TCP, 80, podA4),
		front("fd98:0:96::1", snapshot.TCP, 80, podA6),
	}})
	c := l.program(t, "client")
	c.want(t, "map[podA:10]", "flood tcp 198.18.96.1:80 10")
	c.want(t, "map[podA:10]", "flood tcp [fd98:0:96::1]:80 10")
	c.want(t, "ok", "dial four tcp 198.18.96.1:80")
	c.want(t, "198.18.96.1:80", "peer four")
	c.want(t, "podA", "say four")
	c.want(t, "ok", "dial six tcp [fd98:0:96::1]:80")
	c.want(t, "[fd98:0:96::1]:80", "peer six")
	sync(t, e, &proxy.Table{Frontends: []*proxy.Frontend{front("198.18.96.1", snapshot.TCP, 80, podB4)}})
	c.want(t, "podA", "say four")
	c.want(t, "map[podB:10]", "flood tcp 198.18.96.1:80 10")
}
