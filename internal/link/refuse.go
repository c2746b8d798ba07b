package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The table of the routes that refuse packets, and the place of the rule that leads to
// it: after the table of local addresses, also where Cilium has moved that one to 100,
// and before the rules of other programs.
const (
	refuseTable = 7947
	refuseRule  = 101
)

// Refuse makes this network namespace refuse packets to prefixes that it would forward,
// and no others. What is translated to an endpoint is no longer sent to these, and what
// the node itself sends is not looked at. Without it, a packet to an address that is
// announced and held by nobody goes back to the router, which returns it, until its TTL
// is used up. An equal call changes nothing. After an error some are refused.
//
// was is what an earlier call has refused: only the difference is sent to the kernel. With
// nil the kernel is asked, and what others have changed is repaired.
func Refuse(prefixes, was []netip.Prefix) error {
	have := make(map[netip.Prefix]bool, len(was))
	for _, p := range was {
		have[p] = true
	}
	if was == nil {
		var err error
		if have, err = refused(); err != nil {
			return err
		}
	}
	for _, p := range prefixes {
		if !have[p] {
			if err := netlink.RouteReplace(refusing(p)); err != nil {
				return fmt.Errorf("refuse %s: %w", p, err)
			}
		}
		// What is refused still comes before anything is no longer: no packet goes around in between.
		delete(have, p)
	}
	for p := range have {
		if err := netlink.RouteDel(refusing(p)); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("no longer refuse %s: %w", p, err)
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		needed := slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() == (family == netlink.FAMILY_V4) })
		if err := lead(family, needed); err != nil {
			return err
		}
	}
	return nil
}

// Refused returns the prefixes whose packets this network namespace refuses, sorted.
func Refused() ([]netip.Prefix, error) {
	have, err := refused()
	var out []netip.Prefix
	for p := range have {
		out = append(out, p)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out, err
}

func refused() (map[netip.Prefix]bool, error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: refuseTable}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	out := map[netip.Prefix]bool{}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		ones, _ := r.Dst.Mask.Size()
		if addr, ok := netip.AddrFromSlice(r.Dst.IP); ok {
			out[netip.PrefixFrom(addr.Unmap(), ones)] = true
		}
	}
	return out, nil
}

func refusing(p netip.Prefix) *netlink.Route {
	return &netlink.Route{
		Dst:   &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
		Table: refuseTable, Type: unix.RTN_UNREACHABLE, Protocol: unix.RTPROT_STATIC, LinkIndex: 0,
	}
}

// lead has packets that come from outside looked up in the table, or no longer.
func lead(family int, needed bool) error {
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Table = family, refuseRule, refuseTable
	rule.IifName, rule.Invert = "lo", true // the node's own packets have lo for their link
	if needed {
		err := netlink.RuleAdd(rule)
		if errors.Is(err, os.ErrExist) {
			err = nil
		}
		if err != nil {
			return fmt.Errorf("refuse packets: rule: %w", err)
		}
		return nil
	}
	err := netlink.RuleDel(rule)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("refuse packets: rule: %w", err)
	}
	return nil
}
