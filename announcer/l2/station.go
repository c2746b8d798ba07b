package l2

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// mostFrames is how many frames of one socket are read at a time: a host that claims
// our addresses a thousand times a second is heard often enough.
const mostFrames = 256

// station is this process on one link: a socket for ARP and one for NDP, each
// open while there is something to be heard or said.
type station struct {
	index    int
	mac      net.HardwareAddr
	arp, ndp *socket
}

// socket is a socket that hears what its filter lets through.
type socket struct {
	conn   *packet.Conn
	v6     bool
	addrs  []netip.Addr // sorted
	groups map[string]net.HardwareAddr
}

// tune makes the station hear of addrs, sorted, alone.
func (s *station) tune(link netlink.Link, addrs []netip.Addr) error {
	at := link.Attrs()
	// A socket stays with its link: one that was made again under the same name has others.
	if s.index != at.Index {
		s.close()
		s.index = at.Index
	}
	s.mac = at.HardwareAddr
	split, _ := slices.BinarySearchFunc(addrs, netip.IPv6Unspecified(), netip.Addr.Compare)
	ifi := &net.Interface{Index: at.Index, Name: at.Name, MTU: at.MTU, HardwareAddr: at.HardwareAddr, Flags: at.Flags}
	return errors.Join(tune(&s.arp, ifi, false, addrs[:split]), tune(&s.ndp, ifi, true, addrs[split:]))
}

func (s *station) close() {
	for _, e := range []**socket{&s.arp, &s.ndp} {
		if *e != nil {
			_ = (*e).conn.Close()
			*e = nil
		}
	}
}

func tune(at **socket, ifi *net.Interface, v6 bool, addrs []netip.Addr) error {
	sock := *at
	if sock == nil && len(addrs) == 0 || sock != nil && slices.Equal(sock.addrs, addrs) {
		return nil
	}
	if len(addrs) == 0 {
		*at = nil
		return sock.conn.Close()
	}
	program, err := filter(v6, addrs)
	if err != nil {
		return err
	}
	if sock == nil {
		kind := etherARP
		if v6 {
			kind = etherIPv6
		}
		conn, err := packet.Listen(ifi, packet.Raw, kind, &packet.Config{Filter: program})
		if err != nil {
			return fmt.Errorf("open packet socket on %s: %w", ifi.Name, err)
		}
		sock = &socket{conn: conn, v6: v6, groups: map[string]net.HardwareAddr{}}
		*at = sock
	} else if err := sock.conn.SetBPF(program); err != nil {
		return fmt.Errorf("socket filter on %s: %w", ifi.Name, err)
	}
	sock.addrs = slices.Clone(addrs)
	if v6 {
		return sock.joinGroups()
	}
	return nil
}

// joinGroups has the link take in frames to the addresses' solicited-node groups. The
// kernel does that too for an address that it has; one that is probed is none yet.
func (sock *socket) joinGroups() (err error) {
	want := map[string]net.HardwareAddr{}
	for _, a := range sock.addrs {
		if group, bad := ndp.SolicitedNodeMulticast(a); bad == nil {
			mac := groupMAC(group)
			want[string(mac)] = mac
		}
	}
	for k, mac := range sock.groups {
		if want[k] == nil {
			err = errors.Join(err, sock.conn.LeaveGroup(mac))
			delete(sock.groups, k)
		}
	}
	for k, mac := range want {
		if sock.groups[k] == nil {
			err = errors.Join(err, sock.conn.JoinGroup(mac))
			sock.groups[k] = mac
		}
	}
	if err != nil {
		return fmt.Errorf("solicited-node groups: %w", err)
	}
	return nil
}

// send sends whole frames that are about vip.
func (s *station) send(vip netip.Addr, frames [][]byte) error {
	sock := s.arp
	if vip.Is6() {
		sock = s.ndp
	}
	if sock == nil {
		return fmt.Errorf("no socket on link %d", s.index)
	}
	for _, f := range frames {
		if _, err := sock.conn.WriteTo(f, &packet.Addr{HardwareAddr: f[:6]}); err != nil {
			return fmt.Errorf("send on link %d: %w", s.index, err)
		}
	}
	return nil
}

// listen gives f what has come in and returns the number of frames. It does not
// wait for more.
func (s *station) listen(most int, f func(frame []byte)) (n int, err error) {
	for _, sock := range []*socket{s.arp, s.ndp} {
		if sock == nil {
			continue
		}
		got, bad := sock.read(most, f)
		n, err = n+got, errors.Join(err, bad)
	}
	return n, err
}

// dropped returns how many frames the sockets have lost since it was last asked.
func (s *station) dropped() (n uint32) {
	for _, sock := range []*socket{s.arp, s.ndp} {
		if sock == nil {
			continue
		}
		if stats, err := sock.conn.Stats(); err == nil {
			n += stats.Drops
		}
	}
	return n
}

func (sock *socket) read(most int, f func(frame []byte)) (n int, err error) {
	raw, err := sock.conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("read packet socket: %w", err)
	}
	var failed error
	buf := make([]byte, longestFrame)
	err = raw.Read(func(fd uintptr) bool {
		for n < most {
			size, from, bad := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			if bad != nil {
				if !errors.Is(bad, unix.EAGAIN) && !errors.Is(bad, unix.EINTR) {
					failed = bad
				}
				break
			}
			n++
			// The kernel hands over frames of VLANs that this node does not have, too.
			if at, ok := from.(*unix.SockaddrLinklayer); !ok || at.Pkttype != unix.PACKET_OTHERHOST {
				f(buf[:size])
			}
		}
		return true // nothing waits here
	})
	if err = errors.Join(err, failed); err != nil {
		return n, fmt.Errorf("read packet socket: %w", err)
	}
	return n, nil
}
