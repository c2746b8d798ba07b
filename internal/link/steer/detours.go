// Package steer leads packets to routing tables of fairlead's own.
package steer

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Detours are places for Detour values in the kernel. What is at these places, and in
// these tables, is the caller's alone.
type Detours struct {
	Lead, Hold  int // places among the rules; Hold is the one that is looked at later
	First, Most int // tables First to First+Most-1
}

// Detour is where marked packets from one address go: to the router Via over a link. They
// are dropped if Via is the zero Addr.
type Detour struct {
	From, Via netip.Addr
	Link      int // index
}

// gateway is a router on a link. A table has one.
type gateway struct {
	via  netip.Addr
	link int
}

func (g gateway) compare(o gateway) int {
	return cmp.Or(g.via.Compare(o.via), cmp.Compare(g.link, o.link))
}

// place is one rule: where it is, and the packets and the table that it is for.
type place struct {
	priority   int
	from       netip.Addr
	mark, mask uint32
	table      int // 0: drop
}

// Add makes the kernel of h's network namespace hold all, for packets that have the bit
// mark, beside what it holds. Routes come before the rules that lead to them. So does the
// rule that drops a packet which no other rule leads. Add goes on after an error, and
// returns all of them.
func (d Detours) Add(h *netlink.Handle, mark uint32, all []Detour) error {
	_, err := d.add(h, mark, all, d.tables(all))
	return err
}

// Sync is Add, and takes out what all does not have.
func (d Detours) Sync(h *netlink.Handle, mark uint32, all []Detour) error {
	tables := d.tables(all)
	more, err := d.add(h, mark, all, tables)
	errs := []error{err}
	for _, p := range slices.SortedFunc(maps.Keys(more), func(a, b place) int { return a.priority - b.priority }) {
		errs = append(errs, p.remove(h))
	}
	return errors.Join(append(errs, d.drain(h, more, tables))...)
}

// add adds all. It returns the rules that the kernel has beyond.
func (d Detours) add(h *netlink.Handle, mark uint32, all []Detour, tables map[gateway]int) (more map[place]bool, err error) {
	have, err := d.places(h)
	if err != nil {
		return nil, err
	}
	var errs []error
	for g, table := range tables {
		// A route goes with its link, and nothing tells that it went.
		if err := h.RouteReplace(g.route(table)); err != nil {
			errs = append(errs, fmt.Errorf("route to %s by link %d: %w", g.via, g.link, err))
		}
	}
	for _, p := range d.wanted(mark, all, tables) {
		if !have[p] {
			errs = append(errs, p.add(h))
		}
		delete(have, p)
	}
	return have, errors.Join(errs...)
}

// wanted returns the rules of all, those that drop first.
func (d Detours) wanted(mark uint32, all []Detour, tables map[gateway]int) (out []place) {
	for _, t := range all {
		out = append(out, place{d.Hold, t.From, mark, mark, 0})
	}
	for _, t := range all {
		if table := tables[gateway{t.Via, t.Link}]; table != 0 {
			out = append(out, place{d.Lead, t.From, mark, mark, table})
		}
	}
	return out
}

// tables gives each router a table. The number follows from the router, so that it is the
// same after a restart.
func (d Detours) tables(all []Detour) map[gateway]int {
	var gateways []gateway
	for _, t := range all {
		if t.Via.IsValid() {
			gateways = append(gateways, gateway{t.Via, t.Link})
		}
	}
	slices.SortFunc(gateways, gateway.compare)
	out, taken := map[gateway]int{}, map[int]bool{}
	for _, g := range slices.Compact(gateways) {
		sum := fnv.New32a()
		_, _ = sum.Write(binary.BigEndian.AppendUint32(g.via.AsSlice(), uint32(g.link)))
		n := int(sum.Sum32() % uint32(d.Most))
		for taken[n] {
			n = (n + 1) % d.Most
		}
		out[g], taken[n] = d.First+n, true
	}
	return out
}

// places returns the rules that the kernel has in d.
func (d Detours) places(h *netlink.Handle) (map[place]bool, error) {
	out := map[place]bool{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := h.RuleList(family)
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			return nil, fmt.Errorf("list routing rules: %w", err)
		}
		for _, r := range rules {
			if r.Priority != d.Lead && r.Priority != d.Hold || r.Src == nil {
				continue
			}
			p := place{priority: r.Priority, mark: r.Mark, table: r.Table}
			if from, ok := netip.AddrFromSlice(r.Src.IP); ok {
				p.from = from.Unmap()
			}
			if r.Mask != nil {
				p.mask = *r.Mask
			}
			out[p] = true
		}
	}
	return out, nil
}

// drain empties the tables that the rules gone led to and no rule leads to now.
func (d Detours) drain(h *netlink.Handle, gone map[place]bool, tables map[gateway]int) error {
	used, empty := map[int]bool{}, map[int]bool{}
	for _, table := range tables {
		used[table] = true
	}
	var errs []error
	for p := range gone {
		if p.table < d.First || p.table >= d.First+d.Most || used[p.table] || empty[p.table] {
			continue
		}
		empty[p.table] = true
		r := &netlink.Route{Table: p.table, Dst: everywhere(p.from)}
		if err := h.RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("empty table %d: %w", p.table, err))
		}
	}
	return errors.Join(errs...)
}

func everywhere(like netip.Addr) *net.IPNet {
	all := make(net.IP, like.BitLen()/8)
	return &net.IPNet{IP: all, Mask: net.CIDRMask(0, like.BitLen())}
}

func (g gateway) route(table int) *netlink.Route {
	return &netlink.Route{
		Table: table, LinkIndex: g.link, Dst: everywhere(g.via), Gw: g.via.AsSlice(),
		Protocol: unix.RTPROT_STATIC, Flags: int(netlink.FLAG_ONLINK),
	}
}

func (p place) rule() *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Priority, r.Mark, r.Mask, r.Table = netlink.FAMILY_V6, p.priority, p.mark, &p.mask, p.table
	if p.from.Is4() {
		r.Family = netlink.FAMILY_V4
	}
	r.Src = &net.IPNet{IP: p.from.AsSlice(), Mask: net.CIDRMask(p.from.BitLen(), p.from.BitLen())}
	if p.table == 0 {
		r.Type = unix.RTN_BLACKHOLE
	}
	return r
}

func (p place) add(h *netlink.Handle) error {
	if err := h.RuleAdd(p.rule()); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("lead packets from %s to table %d: %w", p.from, p.table, err)
	}
	return nil
}

func (p place) remove(h *netlink.Handle) error {
	if err := h.RuleDel(p.rule()); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("no longer lead packets from %s to table %d: %w", p.from, p.table, err)
	}
	return nil
}
