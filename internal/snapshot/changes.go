package snapshot

import (
	"net/netip"
	"slices"
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
// did not change. An old of nil is an empty cluster.
func Diff(old, now *Snapshot) Changes {
	c := Changes{Since: old}
	if old == nil {
		old = &Snapshot{}
	}
	differing(old.Services, now.Services, func(a, b *Service) int { return a.Ref.Compare(b.Ref) }, func(s *Service) {
		c.Services = append(c.Services, s.Ref)
	})
	differing(old.Addresses, now.Addresses, func(a, b *Address) int { return a.Addr.Compare(b.Addr) }, func(a *Address) {
		c.Addresses = append(c.Addresses, a.Addr)
	})
	c.Services, c.Addresses = slices.Compact(c.Services), slices.Compact(c.Addresses)
	c.Nodes, c.Namespaces, c.Pools = !same(old.Nodes, now.Nodes), !same(old.Namespaces, now.Namespaces), !same(old.Pools, now.Pools)
	c.Announcements, c.NodeStates = !same(old.Announcements, now.Announcements), !same(old.NodeStates, now.NodeStates)
	c.ServiceCIDRs, c.BGPPeers = !same(old.ServiceCIDRs, now.ServiceCIDRs), !same(old.BGPPeers, now.BGPPeers)
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

// shared reports whether a and b are one array, as when their maker had nothing
// to change.
func shared[T any](a, b []*T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func same[T any](a, b []*T) bool { return shared(a, b) || slices.Equal(a, b) }

// differing calls found, in order, for the values of two sorted lists that are
// not the same pointer in both.
func differing[T any](old, now []*T, compare func(a, b *T) int, found func(*T)) {
	if shared(old, now) {
		return // 10,000 Services need no walk when a node reports
	}
	for len(old) > 0 && len(now) > 0 {
		if old[0] == now[0] {
			old, now = old[1:], now[1:]
			continue
		}
		c := compare(old[0], now[0])
		if c <= 0 {
			found(old[0])
			old = old[1:]
		}
		if c >= 0 {
			found(now[0])
			now = now[1:]
		}
	}
	for _, v := range slices.Concat(old, now) {
		found(v)
	}
}
