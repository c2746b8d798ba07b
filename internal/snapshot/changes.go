package snapshot

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/diff"
)

// Changes is what differs between two Snapshots. It is worked out once for each
// new Snapshot, and every decision that remembers its last result reads it.
type Changes struct {
	// Since is the Snapshot that the changes are relative to. A reader that last
	// saw another one calls Diff itself.
	Since *Snapshot
	// Services and Addresses name what was added, removed or replaced, sorted.
	Services  []Ref
	Addresses []netip.Addr
	// The others are true if anything of that kind changed.
	Nodes, Namespaces, Pools, Announcements, NodeStates, ServiceCIDRs, BGPPeers bool
}

// Diff returns what changed from old to now. Values that both share by pointer
// did not change. An old of nil is an empty cluster. Of Services and Addresses it
// returns what the maker of both noted, if it did: see Follows. Otherwise it walks.
func Diff(old, now *Snapshot) Changes {
	c, ok := noted(old, now)
	if !ok {
		c = walk(old, now)
	}
	c.Since = old
	if old == nil {
		old = &Snapshot{}
	}
	c.Nodes, c.Namespaces, c.Pools = !same(old.Nodes, now.Nodes), !same(old.Namespaces, now.Namespaces), !same(old.Pools, now.Pools)
	c.Announcements, c.NodeStates = !same(old.Announcements, now.Announcements), !same(old.NodeStates, now.NodeStates)
	c.ServiceCIDRs, c.BGPPeers = !same(old.ServiceCIDRs, now.ServiceCIDRs), !same(old.BGPPeers, now.BGPPeers)
	return c
}

// walk returns which Services and Addresses differ. It has no memory.
func walk(old, now *Snapshot) (c Changes) {
	if old == nil {
		old = &Snapshot{}
	}
	if !diff.Same(old.Services, now.Services) { // 10,000 Services need no walk when a node reports
		for was, is := range diff.Changed(old.Services, now.Services, func(a, b *Service) int { return a.Ref.Compare(b.Ref) }) {
			c.Services = append(c.Services, (*cmp.Or(is, was)).Ref)
		}
	}
	if !diff.Same(old.Addresses, now.Addresses) {
		for was, is := range diff.Changed(old.Addresses, now.Addresses, func(a, b *Address) int { return a.Addr.Compare(b.Addr) }) {
			c.Addresses = append(c.Addresses, (*cmp.Or(is, was)).Addr)
		}
	}
	return c
}

// From returns the changes since old: c if c is relative to it.
func (c Changes) From(old, now *Snapshot) Changes {
	if old != nil && c.Since == old {
		return c
	}
	return Diff(old, now)
}

// Service reports whether the Service called ref changed.
func (c Changes) Service(ref Ref) bool {
	_, found := slices.BinarySearchFunc(c.Services, ref, Ref.Compare)
	return found
}

func same[T any](a, b []*T) bool { return diff.Same(a, b) || slices.Equal(a, b) }
