package link

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// selfMade is an IPv6 address that the kernel or a network manager made of a prefix that a
// router announces.
type selfMade struct {
	link      string
	addr      netip.Prefix
	flags     uint32 // IFA_F_...
	preferred uint32 // seconds that are left
	stamp     uint32 // when the router was heard last, in hundredths of a second since boot; wraps
}

// unheardFor is how much longer ago than another prefix of its link a prefix was heard if
// its router has let it go without a word, in hundredths of a second. A router repeats
// what it announces within 30 minutes (RFC 4861 section 6.2.1).
const unheardFor = 60 * 60 * 100

// announced returns the prefixes of addrs, sorted.
func announced(addrs []selfMade) (out []snapshot.LinkPrefix) {
	addrs = slices.DeleteFunc(slices.Clone(addrs), func(a selfMade) bool { return !ofRouter(a) })
	for _, a := range addrs {
		p := snapshot.LinkPrefix{Link: a.link, Prefix: a.addr.Masked(), Deprecated: a.preferred == 0 || slices.ContainsFunc(addrs, func(o selfMade) bool {
			return o.link == a.link && int32(o.stamp-a.stamp) > unheardFor //nolint:gosec // the difference of two counters that wrap
		})}
		at, found := slices.BinarySearchFunc(out, p, snapshot.LinkPrefix.Compare)
		if found {
			out[at].Deprecated = out[at].Deprecated && p.Deprecated
			continue
		}
		out = slices.Insert(out, at, p)
	}
	return out
}

// ofRouter reports whether a shows a prefix that a router announces. A permanent address
// was given to the link by a person. A temporary one (RFC 8981) is deprecated every day,
// whatever the router says. One of 128 bits comes from DHCP, or is one of our VIPs.
func ofRouter(a selfMade) bool {
	ip := a.addr.Addr()
	return a.addr.Bits() == snapshot.PrefixBits && ip.IsGlobalUnicast() && !ip.IsLinkLocalUnicast() &&
		a.flags&(unix.IFA_F_PERMANENT|unix.IFA_F_TEMPORARY|unix.IFA_F_DADFAILED) == 0
}

// readPrefixes reads the prefixes that routers announce on links. The netlink library does
// not say when an address was renewed.
func readPrefixes(links []netlink.Link) ([]snapshot.LinkPrefix, error) {
	names := map[uint32]string{}
	for _, l := range links {
		names[uint32(l.Attrs().Index)] = l.Attrs().Name //nolint:gosec // an index is positive
	}
	req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_INET6))
	messages, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	if err != nil {
		return nil, fmt.Errorf("list IPv6 addresses: %w", err)
	}
	var all []selfMade
	for _, m := range messages {
		head := nl.DeserializeIfAddrmsg(m)
		attrs, err := nl.ParseRouteAttr(m[head.Len():])
		if err != nil {
			return nil, fmt.Errorf("read IPv6 addresses: %w", err)
		}
		a := selfMadeOf(attrs, int(head.Prefixlen), uint32(head.Flags))
		if a.link = names[head.Index]; a.link != "" && a.addr.IsValid() {
			all = append(all, a)
		}
	}
	return announced(all), nil
}

func selfMadeOf(attrs []syscall.NetlinkRouteAttr, bits int, flags uint32) selfMade {
	a := selfMade{flags: flags}
	for _, at := range attrs {
		switch v := at.Value; {
		case at.Attr.Type == unix.IFA_ADDRESS:
			if ip, ok := netip.AddrFromSlice(v); ok {
				a.addr = netip.PrefixFrom(ip, bits)
			}
		case at.Attr.Type == unix.IFA_FLAGS && len(v) >= 4:
			a.flags = binary.NativeEndian.Uint32(v)
		case at.Attr.Type == unix.IFA_CACHEINFO && len(v) >= 16:
			// struct ifa_cacheinfo: preferred, valid, created, updated
			a.preferred, a.stamp = binary.NativeEndian.Uint32(v), binary.NativeEndian.Uint32(v[12:])
		}
	}
	return a
}
