package ebpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy/ebpf/content"
)

// netnsDirs are where container runtimes keep the network namespaces of pods.
var netnsDirs = []string{"/run/netns", "/run/docker/netns"}

// sockDestroy is SOCK_DESTROY of linux/sock_diag.h.
const sockDestroy = 21

// diagID is struct inet_diag_sockid of linux/inet_diag.h, in network order but for
// what only the kernel reads.
type diagID struct {
	bytes [48]byte
}

// remote is whom the socket is connected to.
func (d *diagID) remote(family uint8) netip.AddrPort {
	port := binary.BigEndian.Uint16(d.bytes[2:])
	if family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(d.bytes[20:24])), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(d.bytes[20:36])).Unmap(), port)
}

// cookie is the socket's number, which no other ever has.
func (d *diagID) cookie() uint64 {
	low, high := binary.NativeEndian.Uint32(d.bytes[40:]), binary.NativeEndian.Uint32(d.bytes[44:])
	return uint64(high)<<32 | uint64(low)
}

// udpRequest is struct inet_diag_req_v2 for UDP sockets that are connected.
func udpRequest(family uint8, id diagID) []byte {
	const established = 1
	b := []byte{family, unix.IPPROTO_UDP, 0, 0}
	b = binary.NativeEndian.AppendUint32(b, 1<<established)
	return append(b, id.bytes[:]...)
}

// diag is a connection to the kernel's lists of sockets in one network namespace.
type diag struct{ *netlink.Conn }

// dialDiag enters the namespace at a path, or stays in the caller's if it is "".
func dialDiag(path string) (d diag, err error) {
	var cfg netlink.Config
	if path != "" {
		f, err := os.Open(path)
		if err != nil {
			return d, err
		}
		defer f.Close()
		cfg.NetNS = int(f.Fd())
	}
	d.Conn, err = netlink.Dial(unix.NETLINK_INET_DIAG, &cfg)
	return d, err
}

// connected returns the UDP sockets that are connected to somebody.
func (d diag) connected(family uint8) ([]diagID, error) {
	const length = 4 + 48 // of what is looked at in struct inet_diag_msg
	found, err := d.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.SOCK_DIAG_BY_FAMILY, Flags: netlink.Request | netlink.Dump}, Data: udpRequest(family, diagID{}),
	})
	if err != nil {
		return nil, fmt.Errorf("list UDP sockets: %w", err)
	}
	out := make([]diagID, 0, len(found))
	for _, m := range found {
		if len(m.Data) >= length {
			out = append(out, diagID{[48]byte(m.Data[4:length])})
		}
	}
	return out, nil
}

// destroy closes a socket under its program, which gets ECONNABORTED.
func (d diag) destroy(family uint8, id diagID) error {
	_, err := d.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDestroy, Flags: netlink.Request | netlink.Acknowledge}, Data: udpRequest(family, id),
	})
	if errors.Is(err, unix.ENOENT) {
		return nil // it went by itself
	}
	return err
}

// stale are UDP endpoints that Services lost.
func stale(c *content.Change) map[content.Member]bool {
	out := map[content.Member]bool{}
	for _, m := range c.GoneMembers {
		if m.Key.Protocol == snapshot.UDP {
			out[m] = true
		}
	}
	return out
}

// closeSockets closes the connected UDP sockets of programs that dialled a Service
// and came to an endpoint that it does not have any more: they would go on sending
// there. Sockets that dialled the endpoint itself are left alone. It returns how
// many there were.
func (m *connectMaps) closeSockets(gone map[content.Member]bool) (n int, err error) {
	for _, path := range append([]string{""}, namespaces()...) {
		d, fault := dialDiag(path)
		if errors.Is(fault, fs.ErrNotExist) {
			continue // the pod went meanwhile
		}
		if fault == nil {
			var some int
			some, fault = m.closeIn(d, gone)
			n += some
			_ = d.Close()
		}
		if fault != nil {
			err = errors.Join(err, fmt.Errorf("network namespace %q: %w", path, fault))
		}
	}
	return n, err
}

func (m *connectMaps) closeIn(d diag, gone map[content.Member]bool) (n int, err error) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := d.connected(family)
		if err != nil {
			return n, err
		}
		for _, id := range sockets {
			was, err := m.dialled(id.cookie(), id.remote(family))
			if err != nil {
				return n, err
			}
			if was == nil || !gone[*was] {
				continue
			}
			if err := d.destroy(family, id); err != nil {
				return n, fmt.Errorf("close a UDP socket: %w", err)
			}
			n++
		}
	}
	return n, nil
}

// dialled returns the Service by which a socket came to an endpoint, nil if it
// came there by itself.
func (m *connectMaps) dialled(cookie uint64, endpoint netip.AddrPort) (*content.Member, error) {
	d, err := m.dial(cookie)
	if err != nil || d == nil || d.Endpoint.addrPort() != endpoint {
		return nil, err
	}
	return &content.Member{Key: d.Front.key(), Addr: endpoint}, nil
}

// dial returns what a socket dialled, nil if the programs do not know it.
func (m *connectMaps) dial(cookie uint64) (*connectDial, error) {
	seat, err := m.seat(cookie)
	if err != nil {
		return nil, err
	}
	if seat.Cookie == cookie {
		return &seat.Dial, nil
	}
	var d connectDial
	err = m.Dials.Lookup(cookie, &d)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", m.Dials, err)
	}
	return &d, nil
}

// seat reads a socket's seat until it is twice the same, which it is not while a
// program writes it.
func (m *connectMaps) seat(cookie uint64) (seat connectSeat, err error) {
	index := uint32(cookie % uint64(m.Seats.MaxEntries()))
	for {
		last := seat
		if err := m.Seats.Lookup(index, &seat); err != nil {
			return seat, fmt.Errorf("read %s: %w", m.Seats, err)
		}
		if seat == last {
			return seat, nil
		}
	}
}

// namespaces returns the paths of all pods' network namespaces.
func namespaces() (paths []string) {
	for _, dir := range netnsDirs {
		found, err := os.ReadDir(dir)
		if err != nil {
			continue // this runtime is not here
		}
		for _, e := range found {
			var st unix.Statfs_t
			path := filepath.Join(dir, e.Name())
			if unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC { // else it is only being made, or was left over
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// canClose tells why sockets of pods cannot be closed: then connected UDP sockets
// are left alone from the start. It closes one of its own.
func canClose() error {
	if !slices.ContainsFunc(netnsDirs, func(dir string) bool { _, err := os.Stat(dir); return err == nil }) {
		return fmt.Errorf("the pods' network namespaces are in none of %v", netnsDirs)
	}
	d, err := dialDiag("/proc/self/ns/net")
	if err != nil {
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	defer func() { _ = d.Close() }()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	const discard = 9
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: discard}); err != nil {
		return err
	}
	own, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return fmt.Errorf("a socket's cookie: %w", err)
	}
	sockets, err := d.connected(unix.AF_INET)
	if err != nil {
		return err
	}
	for _, id := range sockets {
		if id.cookie() == own {
			if err := d.destroy(unix.AF_INET, id); err != nil {
				return fmt.Errorf("close a socket: %w", err)
			}
			return nil
		}
	}
	return errors.New("a socket is not in the kernel's list")
}
