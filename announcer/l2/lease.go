// Package l2 makes a node answer for its VIPs on its links: each is held on the
// link as a host address with a short lifetime that is renewed (the kernel
// answers ARP and NDP, also while this process restarts, and the address goes
// away by itself when it never comes back), and is said aloud by gratuitous ARP
// or unsolicited neighbour advertisements when it is taken over.
package l2

import (
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer"
)

// leased returns vip as it is put on a link: a host address, deprecated (never
// chosen as a source), without a prefix route, without duplicate address
// detection, gone after lifetime.
func leased(vip netip.Addr, link int, lifetime time.Duration) *netlink.Addr {
	flags := unix.IFA_F_NOPREFIXROUTE
	if vip.Is6() {
		flags |= unix.IFA_F_NODAD
	}
	bits := vip.BitLen()
	return &netlink.Addr{
		IPNet:     &net.IPNet{IP: vip.AsSlice(), Mask: net.CIDRMask(bits, bits)},
		LinkIndex: link,
		Flags:     flags,
		ValidLft:  int(lifetime / time.Second),
	}
}

// IsLease tells whether a is an address of the form that leased makes: so a VIP
// of ours is told from the node's own addresses, also after a restart.
func IsLease(a netlink.Addr) bool {
	ones, bits := a.Mask.Size()
	return ones == bits && a.PreferedLft == 0 && a.Flags&unix.IFA_F_NOPREFIXROUTE != 0 &&
		a.ValidLft > 0 && a.ValidLft <= int(announcer.Lease/time.Second)
}
