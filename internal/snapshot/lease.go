package snapshot

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"
)

// MostLeases is how many leases a Pool has at most: DHCP servers of small sites have a few
// hundred addresses, and the hosts there need them too.
const MostLeases = 64

// FromDHCP says where the addresses of a Pool are leased.
type FromDHCP struct {
	Interface string         // name of the link on the nodes
	Families  []Family       // at least one, sorted
	Servers   []netip.Addr   // whose leases count; none: those of all servers
	Subnets   []netip.Prefix // which addresses count; none: those of the nodes' own subnets
	Nodes     *Selector      // who may lease
}

// PoolLease is a lease that a Pool wants, or has, for one Service.
type PoolLease struct {
	Ref
	Family Family
	// ID is what the client identifier is made of: the UID of the Service that the lease
	// was made for.
	ID     string
	Addr   netip.Addr // zero: none yet, or none any more
	Server netip.Addr // that leased Addr
	Until  time.Time  // in whole seconds
	// Message says what is wrong; "" if the lease is as it should be.
	Message string
}

// NodeLease is what a node that keeps a lease says of it.
type NodeLease struct {
	Pool    string
	ID      string
	Family  Family
	Addr    netip.Addr // zero: it has none
	Server  netip.Addr
	Until   time.Time // by the node's clock, in whole seconds
	At      time.Time // when that came to be so, in whole seconds
	Message string
}

// Compare orders PoolLeases by Service, then family.
func (l PoolLease) Compare(o PoolLease) int {
	return cmp.Or(l.Ref.Compare(o.Ref), cmp.Compare(l.Family, o.Family))
}

// Same reports whether two PoolLeases say the same.
func (l PoolLease) Same(o PoolLease) bool {
	return l.Compare(o) == 0 && l.ID == o.ID && l.Addr == o.Addr && l.Server == o.Server && l.Until.Equal(o.Until) && l.Message == o.Message
}

// WithLeases returns p as it is with leases. Its Ranges are then the leased addresses.
func (p *Pool) WithLeases(leases []PoolLease) *Pool {
	out := *p
	out.Leases, out.Ranges = leases, nil
	for _, l := range leases {
		if l.Addr.IsValid() {
			out.Ranges = append(out.Ranges, netipx.IPRangeFrom(l.Addr, l.Addr))
		}
	}
	return &out
}

// LeaseOf returns the lease of p by which it has addr.
func (p *Pool) LeaseOf(addr netip.Addr) (PoolLease, bool) {
	i := slices.IndexFunc(p.Leases, func(l PoolLease) bool { return l.Addr == addr })
	if i < 0 || p.FromDHCP == nil {
		return PoolLease{}, false
	}
	return p.Leases[i], true
}

// Compare orders NodeLeases by pool, then Service and family.
func (l NodeLease) Compare(o NodeLease) int {
	return cmp.Or(cmp.Compare(l.Pool, o.Pool), cmp.Compare(l.ID, o.ID), cmp.Compare(l.Family, o.Family))
}
