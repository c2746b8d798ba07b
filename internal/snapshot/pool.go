package snapshot

import (
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"
)

// DefaultCoolDown is the CoolDown of a Pool that names none: about as long as names are kept
// from DNS.
const DefaultCoolDown = 10 * time.Minute

// Pool is an AddressPool.
type Pool struct {
	Name              string
	UID               string
	Generation        int64
	Created           time.Time
	Ranges            []netipx.IPRange // as written, in order; parsed. Then those of Prefixes
	Bad               []string         // what of spec.addresses could not be parsed, with the reason; then the pool gives nothing
	Nodes             *Selector        // it gives the addresses of these nodes, and has no Ranges; nil: it gives Ranges
	FromPrefix        *FromPrefix      // it follows a prefix of the network; nil: it does not
	Prefixes          []PoolPrefix     // that it knows, by prefix; the last of Ranges are theirs: see WithPrefixes
	FromDHCP          *FromDHCP        // its addresses are leased; nil: they are not
	Leases            []PoolLease      // that it wants or has, sorted; Ranges are their addresses: see WithLeases
	Exclude           []netipx.IPRange // what of Ranges it does not give
	Reservations      []Reservation    // by address
	MaxPerNamespace   int              // 0: no limit
	CoolDown          time.Duration    // how long a free address stays with its former namespace
	AutoAssign        bool
	AvoidBuggyIPs     bool
	Disabled          bool
	Priority          int // lower first; NoPriority if unset
	Namespaces        []string
	NamespaceSelector *Selector // nil: any
	ServiceSelector   *Selector // nil: any
	Labels            map[string]string

	Status     PoolStatus // as last written
	Conditions map[string]Condition
}

// Reservation keeps an address for one Service.
type Reservation struct {
	Addr netip.Addr
	Ref
}

// NoPriority sorts a pool without spec.priority after all others.
const NoPriority = 1 << 31

// PoolStatus is an AddressPool's counters. They saturate at MaxInt64.
type PoolStatus struct {
	ObservedGeneration int64
	IPv4, IPv6         PoolCount
}

// PoolCount counts one family of a pool.
type PoolCount struct{ Total, Assigned, Free int64 }

// Address is an Address object: the record that its holders have this address.
type Address struct {
	Addr            netip.Addr
	UID             string
	ResourceVersion string
	Created         time.Time // zero: not known
	Pool            string
	Node            string // whose own address it is; "" if it is of a pool's Ranges
	Lease           string // the ID of the PoolLease by which Pool has it, and gives it no longer than that lasts; "": by none
	ShareKey        string
	ShareGroup      string   // what the holders of a shared address have in common: "" or, with externalTrafficPolicy Local, their pods
	Holders         []Holder // sorted by namespace, name
	Freed           Freed    // without holders: who held it last
	Deleting        bool
	ProbedAt        time.Time // zero: not in this assignment
	Conflict        string    // MAC of a foreign host that answers for it; "" if none
	Conflicting     string    // what its condition of that name says while it is True
}

// Freed says in which namespace the last holder of an address was, and until when it
// held it. At is in whole seconds, as the API server keeps it.
type Freed struct {
	Namespace string
	At        time.Time
}

// Holder is one Service that holds an Address.
type Holder struct {
	Ref
	UID   string
	Pool  string     // from which it has the address, if that is a node's own; "" otherwise
	Ports []HeldPort // sorted
	// Ranges of ports that it has beside Ports, sorted. Address.Ranges says whether they
	// count.
	Ranges []PortRange
}

// HeldPort is a protocol and port that a holder occupies on a shared address.
type HeldPort struct {
	Protocol Protocol
	Port     uint16
}

// CaughtAt returns the addresses at which the node whose own address a is takes packets
// for the holders of a, where internal are the node's InternalIPs. A packet to an
// ExternalIP may arrive with an InternalIP instead, if the network in front of the node
// translates it.
func (a *Address) CaughtAt(internal []netip.Addr) []netip.Addr {
	out := []netip.Addr{a.Addr}
	if slices.Contains(internal, a.Addr) {
		return out
	}
	for _, in := range internal {
		if FamilyOf(in) == FamilyOf(a.Addr) {
			out = append(out, in)
		}
	}
	return out
}

// Held reports whether the Service with this ref and uid is a holder.
func (a *Address) Held(ref Ref, uid string) bool {
	for _, h := range a.Holders {
		if h.Ref == ref && h.UID == uid {
			return true
		}
	}
	return false
}

// Announcement says how, where and by whom the addresses of pools are announced.
type Announcement struct {
	Name            string
	PoolSelector    *Selector
	ServiceSelector *Selector
	NodeSelector    *Selector
	PreferredNodes  []PreferredNodes
	L2              bool
	Interfaces      []string      // names or patterns; empty: every suitable link
	Refresh         time.Duration // how often the owner announces again, over layer 2; 0: never
	BGP             *BGPAnnouncement
	Forwarding      Forwarding  // "": Masquerade
	DrainOn         DrainCauses // 0: DrainByDefault
	FailbackNever   bool        // VIPs stay while their owner is well
	Rebalance       string      // changes when VIPs that stay are to be spread
}

// PreferredNodes adds Weight to every node that Selector matches.
type PreferredNodes struct {
	Selector *Selector
	Weight   int
}
