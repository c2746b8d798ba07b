// Package l2 makes a node answer for its VIPs on its links. The kernel answers ARP
// and NDP by a table of ours, also while this process restarts. It stops by itself
// when this process never comes back. A VIP that is taken over is said aloud by
// gratuitous ARP or unsolicited neighbour advertisements.
package l2

import (
	"bytes"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer"
)

// onLink returns addr as it is put on a link: deprecated (never chosen as a
// source), without a prefix route, without duplicate address detection, gone after
// lifetime.
func onLink(addr netip.Addr, bits, link int, lifetime time.Duration) *netlink.Addr {
	flags := unix.IFA_F_NOPREFIXROUTE
	if addr.Is6() {
		flags |= unix.IFA_F_NODAD
	}
	return &netlink.Addr{
		IPNet:     &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, addr.BitLen())},
		LinkIndex: link,
		Flags:     flags,
		ValidLft:  int(lifetime / time.Second),
	}
}

// leased returns vip as version 0.1 put it on a link: as a host address.
func leased(vip netip.Addr, link int, lifetime time.Duration) *netlink.Addr {
	return onLink(vip, vip.BitLen(), link, lifetime)
}

// isLeased reports whether a is an address of the form that leased makes.
func isLeased(a netlink.Addr) bool {
	ones, bits := a.Mask.Size()
	return ones == bits && expires(a)
}

// expires reports whether a has what all addresses of ours have.
func expires(a netlink.Addr) bool {
	return a.PreferedLft == 0 && a.Flags&unix.IFA_F_NOPREFIXROUTE != 0 &&
		a.ValidLft > 0 && a.ValidLft <= int(announcer.Lease/time.Second)
}

// member returns the address that makes a link a member of the solicited-node group
// of vip, an IPv6 address, for lifetime. Switches that follow groups, and the link's
// own filter, drop a question for vip otherwise. The kernel joins the group of an
// address by the last 24 bits (RFC 4291 section 2.7.1) and leaves it with the
// address, which no membership of a socket does: it ends with its process. The
// address is link-local and of this link alone. Nobody is told of it. Its prefix is
// not that of a host address, which version 0.1 would take for a VIP.
func (o Owner) member(vip netip.Addr, link netlink.Link, lifetime time.Duration) *netlink.Addr {
	v, mac := vip.As16(), link.Attrs().HardwareAddr
	b := o.memberPrefix()
	copy(b[10:13], mac[max(0, len(mac)-3):])
	copy(b[13:], v[13:])
	return onLink(netip.AddrFrom16(b), memberBits, link.Attrs().Index, lifetime)
}

// group is a solicited-node group on a link, which several VIPs may be in. For IPv4
// it means nothing.
type group struct {
	link int // index
	last [3]byte
}

func groupOf(vip netip.Addr, link int) group {
	b := vip.As16()
	return group{link, [3]byte(b[13:])}
}

// memberBits is the length of the prefix of member addresses.
const memberBits = 64

// memberPrefix begins all member addresses of o, in 80 bits.
func (o Owner) memberPrefix() [16]byte {
	if o == ControlPlane {
		return [16]byte{0xfe, 0x80, 8: 0xfa, 9: 0x1c}
	}
	return [16]byte{0xfe, 0x80, 8: 0xfa, 9: 0x1e}
}

// isMember reports whether a is of the form that member makes for o.
func (o Owner) isMember(a netlink.Addr) bool {
	ones, _ := a.Mask.Size()
	prefix := o.memberPrefix()
	return ones == memberBits && bytes.HasPrefix(a.IP, prefix[:10]) && expires(a)
}

// put reports whether o put a on a link. Version 0.1 put the agents' VIPs there.
func (o Owner) put(a netlink.Addr) bool {
	return o.isMember(a) || o == Agents && isLeased(a)
}

// IsOurs reports whether a is an address that this package put on a link, in this
// version or an earlier one: it is not an address of the node.
func IsOurs(a netlink.Addr) bool { return Agents.put(a) || ControlPlane.put(a) }
