// Package socket lists the sockets of the node on which a process listens.
package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport"
)

// The kernel's numbers (include/net/tcp_states.h, linux/inet_diag.h).
const (
	stateClose  = 7  // a UDP socket without a peer
	stateListen = 10 // a TCP socket that listens
	onlyIPv6    = 11 // INET_DIAG_SKV6ONLY
	diagByProto = 20 // SOCK_DIAG_BY_FAMILY
	requestSize = 56 // struct inet_diag_req_v2
	messageSize = 72 // struct inet_diag_msg
)

// kinds of socket that are asked for. SCTP has no such listing in kernels whose
// SCTP is a module that nobody loaded.
var kinds = []struct {
	family   uint8
	protocol snapshot.Protocol
	state    uint32
}{
	{unix.AF_INET, snapshot.TCP, stateListen},
	{unix.AF_INET6, snapshot.TCP, stateListen},
	{unix.AF_INET, snapshot.UDP, stateClose},
	{unix.AF_INET6, snapshot.UDP, stateClose},
}

// Read lists the listening TCP sockets and the unconnected UDP sockets of the
// calling thread's network namespace. The kernel filters by state, so that it
// costs nothing on a node with many connections. A family that the kernel lacks is not an error.
func Read() (_ []nodeport.Socket, err error) {
	conn, err := netlink.Dial(unix.NETLINK_INET_DIAG, nil)
	if err != nil {
		return nil, fmt.Errorf("list sockets: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	var out []nodeport.Socket
	for _, k := range kinds {
		req := make([]byte, requestSize)
		req[0], req[1] = k.family, uint8(k.protocol)
		binary.NativeEndian.PutUint32(req[4:], 1<<k.state)
		msgs, err := conn.Execute(netlink.Message{
			Header: netlink.Header{Type: diagByProto, Flags: netlink.Request | netlink.Dump}, Data: req,
		})
		if errors.Is(err, unix.ENOENT) {
			continue // a kernel without this family
		}
		if err != nil {
			return nil, fmt.Errorf("list %s sockets: %w", k.protocol, err)
		}
		for _, m := range msgs {
			if s, ok := parse(m.Data); ok {
				s.Protocol = k.protocol
				out = append(out, s)
			}
		}
	}
	return out, nil
}

// parse reads one struct inet_diag_msg and what follows it.
func parse(b []byte) (nodeport.Socket, bool) {
	if len(b) < messageSize {
		return nodeport.Socket{}, false
	}
	port := binary.BigEndian.Uint16(b[4:])
	if b[0] == unix.AF_INET {
		return nodeport.Socket{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[8:12])), port)}, true
	}
	s := nodeport.Socket{Addr: netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])).Unmap(), port)}
	s.Both = s.Addr.Addr() == netip.IPv6Unspecified()
	attrs, err := netlink.NewAttributeDecoder(b[messageSize:])
	if err != nil {
		return s, true
	}
	for attrs.Next() {
		// The kernel tells this of every IPv6 socket; without IPV6_V6ONLY it takes IPv4 as well.
		if attrs.Type() == onlyIPv6 && attrs.Uint8() == 1 {
			s.Both = false
		}
	}
	return s, true
}
