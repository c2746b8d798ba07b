package socket

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const stateEstablished = 1

// mostConnected is how many places Connected returns at most.
const mostConnected = 16

// Connected returns where the TCP connections lead that root's processes in the calling
// thread's network namespace have to one of ports: 16 places at most, in the order of
// ports. A process that others connect to at such a port is none of them.
func Connected(ports ...uint16) (_ []netip.AddrPort, err error) {
	conn, err := netlink.Dial(unix.NETLINK_INET_DIAG, nil)
	if err != nil {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	var out []netip.AddrPort
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		req := make([]byte, requestSize)
		req[0], req[1] = family, unix.IPPROTO_TCP
		binary.NativeEndian.PutUint32(req[4:], 1<<stateEstablished)
		msgs, err := conn.Execute(netlink.Message{
			Header: netlink.Header{Type: diagByProto, Flags: netlink.Request | netlink.Dump}, Data: req,
		})
		if errors.Is(err, unix.ENOENT) {
			continue // a kernel without this family
		}
		if err != nil {
			return nil, fmt.Errorf("list connections: %w", err)
		}
		for _, m := range msgs {
			if to, ok := parsePeer(m.Data); ok && slices.Contains(ports, to.Port()) {
				out = append(out, to)
			}
		}
	}
	slices.SortFunc(out, func(a, b netip.AddrPort) int {
		return cmp.Or(cmp.Compare(slices.Index(ports, a.Port()), slices.Index(ports, b.Port())), a.Compare(b))
	})
	out = slices.Compact(out)
	return out[:min(len(out), mostConnected)], nil
}

// parsePeer reads one struct inet_diag_msg of a connection. It returns false for one that
// is not root's.
func parsePeer(b []byte) (netip.AddrPort, bool) {
	// Any process may connect to such a port of a server of its own. The kubelet is root's.
	if len(b) < messageSize || binary.NativeEndian.Uint32(b[64:]) != 0 {
		return netip.AddrPort{}, false
	}
	port := binary.BigEndian.Uint16(b[6:])
	if b[0] == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[24:28])), port), true
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[24:40])).Unmap(), port), true
}
