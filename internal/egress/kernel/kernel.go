// Package kernel makes true what package egress decides: two nftables tables, routing
// rules for the packets that go to an owner, and connections that end when their owner
// changes. All of it stays when the process ends.
package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/egress"
	"github.com/fairlead/fairlead/internal/link/steer"
	"github.com/fairlead/fairlead/internal/marks"
)

// Kernel acts on one network namespace. Sync and Cleanup are called by one goroutine,
// Counts by any.
type Kernel struct {
	netns   int
	bit     uint32
	sources map[netip.Addr]netip.Addr // what connections were compared with last; nil: nothing
}

// New makes a Kernel of the network namespace netns, a file descriptor; 0: the caller's.
// masquerade is the bit of the mark that the engine uses.
func New(netns int, masquerade uint32) *Kernel {
	return &Kernel{netns: netns, bit: marks.Egress(masquerade)}
}

var detours = steer.Detours{Lead: marks.EgressLead, Hold: marks.EgressHold, First: marks.EgressTable, Most: marks.EgressMost}

func (k *Kernel) handle(protocol int) (h *netlink.Handle, err error) {
	if k.netns == 0 {
		h, err = netlink.NewHandle(protocol)
	} else {
		h, err = netlink.NewHandleAt(netns.NsHandle(k.netns), protocol)
	}
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return h, nil
}

// Sync makes the kernel hold s. A pod's packets have their way before a rule marks them,
// and lose it after no rule does. If the kernel holds s already, nothing is written. After
// an error some of s may be held.
func (k *Kernel) Sync(s egress.State) error {
	h, err := k.handle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	var ways []steer.Detour
	for _, p := range s.Pods {
		if p.Way == egress.Via {
			ways = append(ways, steer.Detour{From: p.Addr, Via: p.Gateway, Link: p.Link})
		}
	}
	if err := detours.Add(h, k.bit, ways); err != nil {
		return err
	}
	existed, err := k.write(s)
	if err != nil {
		return err
	}
	if len(s.Pods) == 0 && !existed && len(k.sources) == 0 {
		k.sources = map[netip.Addr]netip.Addr{} // no connection has the mark
	}
	if err := detours.Sync(h, k.bit, ways); err != nil {
		return err
	}
	return k.endStale(s)
}

// Cleanup takes everything out, and ends the connections that depend on it. It succeeds
// when there is nothing.
func (k *Kernel) Cleanup() error { return k.Sync(egress.State{}) }

func (k *Kernel) open() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.WithNetNSFd(k.netns))
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	return c, nil
}

// write makes the tables hold s, in one transaction. Without pods there are no tables. It
// reports whether there were any before.
func (k *Kernel) write(s egress.State) (existed bool, err error) {
	c, err := k.open()
	if err != nil {
		return false, err
	}
	for _, f := range families {
		had, err := k.writeFamily(c, f, s)
		if err != nil {
			return existed, fmt.Errorf("table %s of family %d: %w", Table, f.nft, err)
		}
		existed = existed || had
	}
	if err := c.Flush(); err != nil {
		return existed, fmt.Errorf("tables %s: %w", Table, err)
	}
	return existed, nil
}

// writeFamily writes one table, and reports whether it was there.
func (k *Kernel) writeFamily(c *nftables.Conn, f family, s egress.State) (exists bool, err error) {
	version := f.version(k.bit)
	exists, intact, err := look(c, f, version, len(f.rules(k.bit)))
	switch {
	case err != nil:
		return exists, err
	case len(s.Pods) == 0 && !exists:
		return false, nil
	case len(s.Pods) == 0:
		c.DelTable(f.table())
		return true, nil
	}
	if !intact {
		if exists {
			c.DelTable(f.table())
		}
		if err := k.addTable(c, f, version); err != nil {
			return exists, err
		}
	}
	return exists, fill(c, f, s, intact)
}

// fill makes the sets of a table hold what s says. If the table stays, sets that hold it
// already are not written.
func fill(c *nftables.Conn, f family, s egress.State, stays bool) error {
	wanted := f.elements(s)
	for _, set := range f.sets() {
		if stays {
			have, err := c.GetSetElements(set)
			if err != nil {
				return fmt.Errorf("list %s: %w", set.Name, err)
			}
			if same(have, wanted[set.Name]) {
				continue
			}
			// A packet sees the elements of before or those of now.
			c.FlushSet(set)
		}
		if err := add(c, set, wanted[set.Name]); err != nil {
			return err
		}
	}
	return nil
}

// look reports whether the table is there, and whether its rules are those of version.
func look(c *nftables.Conn, f family, version string, n int) (exists, intact bool, err error) {
	t, err := c.ListTableOfFamily(Table, f.nft)
	if errors.Is(err, fs.ErrNotExist) || t == nil && err == nil {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("find the table: %w", err)
	}
	rules, err := rulesOf(c, f)
	if err != nil {
		return true, false, err
	}
	ours := func(r *nftables.Rule) bool { return strings.HasPrefix(comment(r), version) }
	return true, len(rules) == n && !slices.ContainsFunc(rules, func(r *nftables.Rule) bool { return !ours(r) }), nil
}

// chainNames are those of a table.
var chainNames = []string{chainMark, chainLeaving, chainRefuse, chainSource, chainNAT}

// rulesOf returns all rules of a table.
func rulesOf(c *nftables.Conn, f family) (out []*nftables.Rule, err error) {
	for _, name := range chainNames {
		rules, err := c.GetRules(f.table(), &nftables.Chain{Name: name})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list rules of %s: %w", name, err)
		}
		out = append(out, rules...)
	}
	return out, nil
}

// comment returns the comment of a rule, "" if it has none.
func comment(r *nftables.Rule) string {
	if len(r.UserData) < 3 || r.UserData[0] != 0 {
		return ""
	}
	return strings.TrimRight(string(r.UserData[2:]), "\x00")
}

// addTable adds the table with its sets and rules.
func (k *Kernel) addTable(c *nftables.Conn, f family, version string) error {
	t := c.AddTable(f.table())
	for _, s := range f.sets() {
		s.Table = t
		if err := c.AddSet(s, nil); err != nil {
			return fmt.Errorf("add %s: %w", s.Name, err)
		}
	}
	accept := nftables.ChainPolicyAccept
	chains := map[string]*nftables.Chain{}
	for _, ch := range []*nftables.Chain{
		{Name: chainLeaving}, {Name: chainRefuse}, {Name: chainNAT},
		{Name: chainMark, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRef(beforeDNAT), Policy: &accept},
		{Name: chainSource, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityRef(beforeMasquerade), Policy: &accept},
	} {
		ch.Table = t
		chains[ch.Name] = c.AddChain(ch)
	}
	for _, r := range f.rules(k.bit) {
		c.AddRule(&nftables.Rule{Table: t, Chain: chains[r.chain], Exprs: r.exprs, UserData: userData(version + " " + r.comment)})
	}
	return nil
}
