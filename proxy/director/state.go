package director

import (
	"net"
	"net/netip"
	"time"
)

// State is what the program of a node knows (package program).
type State struct {
	Me string // name of one of Nodes
	// Nodes are the Members of every Table, sorted by name as those are.
	Nodes     []Node
	Frontends []Frontend
	// Hold is how long after the Sync the end of a walk drops packets instead of having
	// them reset. A node that is declared gone may come back with its connections.
	Hold time.Duration
}

// Weights returns the part of all slots that each node is the primary of, by its name.
func (s *State) Weights() map[string]float64 {
	out, slots := map[string]float64{}, 0
	for _, f := range s.Frontends {
		for i := 0; i < len(f.Slots.Chains); i += Places {
			out[s.Nodes[f.Slots.Chains[i]].Name]++
			slots++
		}
	}
	for name := range out {
		out[name] /= float64(slots)
	}
	return out
}

// Part is what a node does with packets that others pass on.
type Part uint8

// The parts.
const (
	Takes Part = iota // it serves them, or passes them on
	// AskedLast is declared gone. It is the primary of nothing, and gets what would end its
	// walk otherwise: it may come back with its connections.
	AskedLast
	// Apart takes none. The node that a packet reaches first serves its slots, as with
	// Masquerade.
	Apart
)

// Node is a node of the cluster as its neighbours on a link see it.
type Node struct {
	Name       string
	IPv4, IPv6 netip.Addr // not valid: it has none, and packets of this family go to the stack
	MACs       []MAC
	Link       int // index of the link that leads to it; 0: none does
	Part       Part
	// Way leads to a node of another subnet. The zero value stands for a node in the network
	// of Link.
	Way Way
	// Addrs are the addresses that a node of another subnet sends from. Those of Me are the
	// addresses to which such nodes send.
	Addrs []netip.Addr
}

// Way is how packets get to a node of another subnet: behind a header of IP and UDP.
type Way struct {
	MTU        int        // what it takes, with that header
	IPv4, IPv6 netip.Addr // this node's, which the header is from
}

// Port is the UDP port of that header.
const Port = 7949

// What the header takes, by family.
const (
	Header4 = 20 + 8
	Header6 = 40 + 8
)

// MAC is a hardware address of Ethernet.
type MAC [6]byte

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// Frontend is a VIP and port whose packets are directed. A Service with
// externalTrafficPolicy Local has none.
type Frontend struct {
	VIP   netip.AddrPort
	Proto uint8 // IANA number: 6 TCP, 17 UDP
	// Ranges are the ports of a Frontend whose VIP has the port 0: sorted, not overlapping,
	// MaxRanges at most. A Frontend with one of these ports as its own goes before it.
	Ranges []Ports
	Slots  *Slots
	// HasEndpoints says that this node has endpoints that take connections, and that
	// nftables knows them.
	HasEndpoints bool
	ByClient     bool // session affinity: a client has one slot, at all ports of Ranges
	Grace        Grace
	// Apart are the endpoints of nodes that are Apart. The node that a packet reaches first
	// translates what has a slot of these nodes to one of them; nil: as without a director.
	Apart []netip.AddrPort
}

// MaxRanges is how many ranges of ports the program knows for one Frontend.
const MaxRanges = 64

// Ports is a range of ports.
type Ports struct{ First, Last uint16 }

// Slots are a Table and its Memory as the program looks them up. Frontends whose Slots
// are equal share one copy in the kernel.
type Slots struct {
	Chains []uint16 // as Table.Chains returns them; empty: no node has an endpoint
	// Changed is when each slot got its primary, in seconds of the monotonic clock. 0 is
	// long ago. Nil stands for all 0.
	Changed []uint32
}

// Grace is whether a Frontend's connections of before a change go on.
type Grace uint8

// The graces.
const (
	NoGrace  Grace = iota
	OnGrace        // it is directed since lately
	OffGrace       // it is no longer directed
)
