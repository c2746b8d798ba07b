package snapshot

import (
	"net/netip"
	"time"
)

// Node is a cluster node as Kubernetes sees it.
type Node struct {
	Name           string
	UID            string
	Labels         map[string]string
	Zone           string // topology.kubernetes.io/zone
	InternalIPs    []netip.Addr
	PodCIDRs       []netip.Prefix
	Ready          bool // condition Ready is there and not False
	NetworkUnavail bool // condition NetworkUnavailable is True
	Unschedulable  bool // cordoned
	Deleting       bool
	Taints         []string // keys
}

// Namespace is a namespace's labels, which pools may select.
type Namespace struct {
	Name   string
	Labels map[string]string
}

// NodeState is what a node's agent says of itself: its links and whether its
// engine holds what it should. It is read by the other nodes' elections.
type NodeState struct {
	Node     string
	Links    []Link
	InSync   bool // the engine holds the last Table it was given
	Draining bool // wants to hand over its VIPs
	// Announces lists the VIPs that this node holds now.
	Announces []Announced
	// Peers lists how it stands with its BGPPeers, sorted by name.
	Peers []PeerState
	// Gone lists the nodes that it holds for lost, sorted.
	Gone []string
	// Refused lists the VIPs that no node announces as far as it knows, and why.
	Refused []Unannounced
	// Findings lists what it learnt of addresses on the network, sorted.
	Findings []Finding
	// Problems lists what of single Services this node could not do, sorted.
	Problems []Problem
}

// PeerState is how it stands with one BGPPeer on one node.
type PeerState struct {
	Name  string
	State string // of the session as RFC 4271 section 8.2.2 names it, or PeerRefused
	Why   string // it is refused
}

// The states of a PeerState that matter.
const (
	PeerEstablished = "Established"
	PeerRefused     = "Refused"
)

// Problem is something about one Service that a node could not do, or that its
// owner should know.
type Problem struct {
	Service Ref
	Reason  Reason
	Message string
}

// Finding is what a node learnt of one address on the network.
type Finding struct {
	Addr     netip.Addr
	UID      string    // of the Address for which it was found
	ProbedAt time.Time // zero: not probed
	Conflict string    // MAC of the foreign host that answered the probe; "" if none
	Claimant string    // MAC of a foreign host that claims it while the node announces it
}

// Unannounced is one VIP that is not announced, and why.
type Unannounced struct {
	Addr netip.Addr
	Refusal
}

// Announced is one VIP on one link of a node.
type Announced struct {
	Addr  netip.Addr
	Link  string // "": over BGP
	MAC   string
	Peers int // sessions over which it is announced
	// Leaving tells that it is being handed over.
	Leaving bool
}

// Link is a network link of a node that could carry a VIP: up, with carrier,
// with ARP, without a master.
type Link struct {
	Name     string
	Index    int
	MAC      string
	Prefixes []netip.Prefix // its own addresses with their lengths, VIPs excluded
}

// Contains tells whether one of the link's own prefixes contains addr.
func (l Link) Contains(addr netip.Addr) bool {
	for _, p := range l.Prefixes {
		if p.Masked().Contains(addr) {
			return true
		}
	}
	return false
}

// ServiceCIDR is a ServiceCIDR object's prefixes.
type ServiceCIDR struct {
	Name     string
	Prefixes []netip.Prefix
}
