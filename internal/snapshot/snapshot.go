package snapshot

import (
	"cmp"
	"net/netip"
	"slices"
	"sort"
)

// Snapshot is the cluster as one decision sees it. Every slice is sorted by
// name (Services by namespace, then name) and holds no duplicates.
type Snapshot struct {
	Services      []*Service
	Nodes         []*Node
	Namespaces    []*Namespace
	Pools         []*Pool
	Addresses     []*Address // of pools' Ranges
	NodeAddresses []*Address // the nodes' own, sorted by address: nobody announces them
	Announcements []*Announcement
	NodeStates    []*NodeState
	ServiceCIDRs  []*ServiceCIDR
	BGPPeers      []*BGPPeer

	history *history // nil: see Follows
}

// Sort puts every slice into its order. Makers of Snapshots call it once.
func (s *Snapshot) Sort() {
	slices.SortFunc(s.Services, func(a, b *Service) int { return a.Ref.Compare(b.Ref) })
	byName(s.Nodes, func(n *Node) string { return n.Name })
	byName(s.Namespaces, func(n *Namespace) string { return n.Name })
	byName(s.Pools, func(p *Pool) string { return p.Name })
	slices.SortFunc(s.Addresses, func(a, b *Address) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(s.NodeAddresses, func(a, b *Address) int { return a.Addr.Compare(b.Addr) })
	byName(s.Announcements, func(a *Announcement) string { return a.Name })
	byName(s.NodeStates, func(n *NodeState) string { return n.Node })
	byName(s.ServiceCIDRs, func(c *ServiceCIDR) string { return c.Name })
	byName(s.BGPPeers, func(p *BGPPeer) string { return p.Name })
}

// Node returns the Node called name, or nil.
func (s *Snapshot) Node(name string) *Node {
	return find(s.Nodes, name, func(n *Node) string { return n.Name })
}

// Namespace returns the Namespace called name, or nil.
func (s *Snapshot) Namespace(name string) *Namespace {
	return find(s.Namespaces, name, func(n *Namespace) string { return n.Name })
}

// Pool returns the Pool called name, or nil.
func (s *Snapshot) Pool(name string) *Pool {
	return find(s.Pools, name, func(p *Pool) string { return p.Name })
}

// NodeState returns the NodeState of the node called name, or nil.
func (s *Snapshot) NodeState(name string) *NodeState {
	return find(s.NodeStates, name, func(n *NodeState) string { return n.Node })
}

// Service returns the Service that ref names, or nil.
func (s *Snapshot) Service(ref Ref) *Service {
	i := sort.Search(len(s.Services), func(i int) bool { return s.Services[i].Ref.Compare(ref) >= 0 })
	if i < len(s.Services) && s.Services[i].Ref == ref {
		return s.Services[i]
	}
	return nil
}

// Address returns the record of addr, or nil. It does not look at NodeAddresses.
func (s *Snapshot) Address(addr netip.Addr) *Address { return recordOf(s.Addresses, addr) }

// NodeAddress returns the record of a node's own address, or nil.
func (s *Snapshot) NodeAddress(addr netip.Addr) *Address { return recordOf(s.NodeAddresses, addr) }

func recordOf(records []*Address, addr netip.Addr) *Address {
	i, found := slices.BinarySearchFunc(records, addr, func(a *Address, want netip.Addr) int { return a.Addr.Compare(want) })
	if !found {
		return nil
	}
	return records[i]
}

func byName[T any](items []*T, name func(*T) string) {
	slices.SortFunc(items, func(a, b *T) int { return cmp.Compare(name(a), name(b)) })
}

func find[T any](items []*T, want string, name func(*T) string) *T {
	i := sort.Search(len(items), func(i int) bool { return name(items[i]) >= want })
	if i < len(items) && name(items[i]) == want {
		return items[i]
	}
	return nil
}
