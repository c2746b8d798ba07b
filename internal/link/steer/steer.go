// Package steer fills routing tables of fairlead's own, and leads marked packets to them.
// Each part of fairlead that needs that has a Space of its own.
package steer

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

// Space is what one part of fairlead has for itself: the tables with the numbers First to
// First+Most-1, and one place among the rules.
type Space struct {
	Priority    int
	First, Most int
}

// Table is one routing table. Packets whose mark has the value Mark in the bits of Mask
// are routed by it. Where it has no route for a packet, the rules behind it count.
type Table struct {
	Number     int // 1 to Space.Most
	Mark, Mask uint32
	Routes     []Route
}

// Route is a route over a link. Without Via, Dst is on the link itself. A router is taken
// to be on the link whatever the link's networks are.
type Route struct {
	Dst  netip.Prefix
	Via  netip.Addr
	Link int // index
}

// Sync makes the kernel of this network namespace hold tables and nothing else in s. What
// is there already stays untouched. Routes come before the rule that leads to them, and go
// after it. It goes on after an error, and returns all of them.
func (s Space) Sync(tables []Table) error {
	rules, err := s.rules()
	if err != nil {
		return err
	}
	routes, err := s.routes()
	if err != nil {
		return err
	}
	var errs []error
	wanted := map[Route]map[int]bool{}
	leads := map[rule]bool{}
	for _, t := range tables {
		for _, r := range t.Routes {
			if wanted[r] == nil {
				wanted[r] = map[int]bool{}
			}
			if wanted[r][t.Number] = true; !routes[t.Number][r] {
				errs = append(errs, s.add(t.Number, r))
			}
			leads[rule{family(r.Dst.Addr()), t.Number, t.Mark, t.Mask}] = true
		}
	}
	for r := range leads {
		if !rules[r] {
			errs = append(errs, s.lead(r))
		}
	}
	for r := range rules {
		if !leads[r] {
			errs = append(errs, s.unlead(r))
		}
	}
	for number, all := range routes {
		for r := range all {
			if !wanted[r][number] {
				errs = append(errs, s.remove(number, r))
			}
		}
	}
	return errors.Join(errs...)
}

// Links returns the indexes of the links that each table has routes over, by number.
func (s Space) Links() (map[int]int, error) {
	routes, err := s.routes()
	out := map[int]int{}
	for number, all := range routes {
		for r := range all {
			out[number] = r.Link
		}
	}
	return out, err
}

// rule is what leads to a table in one family.
type rule struct {
	family, number int
	mark, mask     uint32
}

func family(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

var families = []int{netlink.FAMILY_V4, netlink.FAMILY_V6}

// Number returns the number of a routing table of the kernel, and whether it is one of s.
func (s Space) Number(table int) (int, bool) {
	n := table - s.First + 1
	return n, n >= 1 && n <= s.Most
}

// rules returns the rules that lead to tables of s.
func (s Space) rules() (map[rule]bool, error) {
	out := map[rule]bool{}
	for _, f := range families {
		all, err := netlink.RuleList(f)
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			return nil, fmt.Errorf("list routing rules: %w", err)
		}
		for _, r := range all {
			n, ok := s.Number(r.Table)
			if !ok || r.Priority != s.Priority {
				continue
			}
			lead := rule{family: f, number: n, mark: r.Mark}
			if r.Mask != nil {
				lead.mask = *r.Mask
			}
			out[lead] = true
		}
	}
	return out, nil
}

// routes returns the routes in tables of s, by number.
func (s Space) routes() (map[int]map[Route]bool, error) {
	out := map[int]map[Route]bool{}
	for _, f := range families {
		// A router has a million routes; few are kept.
		allTables := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
		err := netlink.RouteListFilteredIter(f, allTables, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
			if n, ok := s.Number(r.Table); ok {
				if out[n] == nil {
					out[n] = map[Route]bool{}
				}
				out[n][routeOf(f, r)] = true
			}
			return true
		})
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("list routes: %w", err)
		}
	}
	return out, nil
}

func routeOf(f int, r netlink.Route) Route {
	out := Route{Link: r.LinkIndex}
	if via, ok := netip.AddrFromSlice(r.Gw); ok {
		out.Via = via.Unmap()
	}
	if r.Dst == nil {
		all := netip.IPv6Unspecified()
		if f == netlink.FAMILY_V4 {
			all = netip.IPv4Unspecified()
		}
		out.Dst = netip.PrefixFrom(all, 0)
		return out
	}
	ones, _ := r.Dst.Mask.Size()
	if a, ok := netip.AddrFromSlice(r.Dst.IP); ok {
		out.Dst = netip.PrefixFrom(a.Unmap(), ones)
	}
	return out
}

// route is r as the kernel takes it. The priority is the one that IPv6 would choose.
func (s Space) route(number int, r Route) *netlink.Route {
	out := &netlink.Route{
		Table: s.First + number - 1, LinkIndex: r.Link, Protocol: unix.RTPROT_STATIC,
		Dst: &net.IPNet{IP: r.Dst.Addr().AsSlice(), Mask: net.CIDRMask(r.Dst.Bits(), r.Dst.Addr().BitLen())},
	}
	if !r.Via.IsValid() {
		out.Scope = netlink.SCOPE_LINK
		return out
	}
	out.Gw, out.Flags = r.Via.WithZone("").AsSlice(), int(netlink.FLAG_ONLINK)
	return out
}

func (s Space) add(number int, r Route) error {
	if err := netlink.RouteReplace(s.route(number, r)); err != nil {
		return fmt.Errorf("route %s by link %d: %w", r.Dst, r.Link, err)
	}
	return nil
}

func (s Space) remove(number int, r Route) error {
	gone := s.route(number, r)
	gone.Protocol = 0 // no matter who made it
	if err := netlink.RouteDel(gone); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("no longer route %s by link %d: %w", r.Dst, r.Link, err)
	}
	return nil
}

func (s Space) rule(r rule) *netlink.Rule {
	out := netlink.NewRule()
	out.Family, out.Priority, out.Table = r.family, s.Priority, s.First+r.number-1
	out.Mark = r.mark
	if r.mask != 0 {
		out.Mask = &r.mask
	}
	return out
}

func (s Space) lead(r rule) error {
	if err := netlink.RuleAdd(s.rule(r)); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("lead the mark %#x to table %d: %w", r.mark, s.First+r.number-1, err)
	}
	return nil
}

func (s Space) unlead(r rule) error {
	if err := netlink.RuleDel(s.rule(r)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("no longer lead the mark %#x to table %d: %w", r.mark, s.First+r.number-1, err)
	}
	return nil
}

// Cleanup takes everything in s out of the kernel. It goes on after an error, and returns all
// of them.
func (s Space) Cleanup() error { return s.Sync(nil) }

// Numbers gives each of links a number from 1 to most. One that has a number in had keeps
// it: the marks of its connections stay right. Links beyond most get none.
func Numbers(links []int, had map[int]int, most int) map[int]int {
	out := map[int]int{}
	taken := map[int]bool{}
	for number := 1; number <= most; number++ {
		if l, ok := had[number]; ok && out[l] == 0 && slices.Contains(links, l) {
			out[l], taken[number] = number, true
		}
	}
	next := 1
	for _, l := range links {
		for taken[next] {
			next++
		}
		if out[l] == 0 && next <= most {
			out[l], taken[next] = next, true
		}
	}
	return out
}
