package snapshot

import (
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"
)

// Node is a cluster node as Kubernetes sees it.
type Node struct {
	Name           string
	UID            string
	Labels         map[string]string
	Zone           string // topology.kubernetes.io/zone
	InternalIPs    []netip.Addr
	ExternalIPs    []netip.Addr
	PodCIDRs       []netip.Prefix
	Ready          bool // condition Ready is there and not False
	Unheard        bool // condition Ready is Unknown: the control plane does not hear the kubelet
	NetworkUnavail bool // condition NetworkUnavailable is True
	Unschedulable  bool // cordoned
	ShuttingDown   bool // its kubelet says that the machine shuts down
	Deleting       bool
	Taints         []string // keys
}

// ExcludeLabel keeps a node from taking connections for load balancers, with any value
// but a false one.
const ExcludeLabel = "node.kubernetes.io/exclude-from-external-load-balancers"

// Excluded reports whether the node has ExcludeLabel.
func (n *Node) Excluded() bool {
	v, ok := n.Labels[ExcludeLabel]
	return ok && !slices.Contains([]string{"false", "False", "FALSE", "f", "F", "0"}, v)
}

// Namespace is a namespace's labels, which pools may select.
type Namespace struct {
	Name   string
	UID    string
	Labels map[string]string
}

// NodeState is what a node's agent says of its node. The agent writes it, and the
// controller and the commands read it; internal/kube converts it to the API type and
// back. A Snapshot that the controller follows holds only the part that decisions read:
// see kube.Builder. One that an agent follows holds none.
type NodeState struct {
	Electable
	Version string    // of the agent
	Renewed time.Time // when the agent last wrote it, by the node's clock: see RenewEvery
	// ReportKey is the public key that the agent signs its reports to other agents with, in
	// base64; "" if it does not sign.
	ReportKey string
	Engine    Engine
	// Prefixes lists the IPv6 prefixes that routers announce on its links, sorted by link,
	// then prefix.
	Prefixes []LinkPrefix
	// Leases lists the DHCP leases that it keeps for pools, by pool and Service.
	Leases []NodeLease
	// Announces lists the VIPs that this node holds now: first those on links, then
	// those over BGP, each sorted.
	Announces []Announced
	// Unlisted counts the VIPs that it holds and that Announces leaves out, because
	// the API lists a limited number.
	Unlisted int
	// Refused lists VIPs that this node does not announce, and why, sorted by address:
	// those that it owns, and some that have no owner.
	Refused []Refused
	// Silent lists the nodes whose agents this one does not hear, sorted by name, as far
	// as it is a witness of them.
	Silent []Silent
	// Peers lists the node's sessions with its BGPPeers, sorted by name.
	Peers []PeerState
	// Findings lists what it learnt of addresses on the network, sorted by address.
	Findings []Finding
	// Problems lists what it could not do for single Services, sorted by Service.
	Problems   []Problem
	Conditions map[string]Condition
}

// RenewEvery is the shortest time between two writes of a NodeState in which nothing
// changed; up to half of it more is chosen at random. Nobody decides by a renewal:
// whether an agent runs is what the other agents say.
const RenewEvery = 10 * time.Minute

// WrittenWithin returns how long a change of a NodeState that nobody waits for stays
// unwritten at most, in a cluster of so many nodes. A change that all nodes see at once
// makes no more than ten writes a second.
func WrittenWithin(nodes int) time.Duration {
	return max(10*time.Second, time.Duration(nodes)*200*time.Millisecond)
}

// Electable is the part of a NodeState that an election reads. Agents also tell it
// to each other directly, which is faster than the API server.
type Electable struct {
	Node     string
	InSync   bool // the engine holds the last Table it was given
	Draining bool // hands VIPs over, all of them or those whose Announcements ask for it
	Links    []Link
	Director *DirectorState // nil: the agent is of an earlier version. No election reads it
	// Protocol is the version of the gossip that its agent speaks. It is 0 for version 0.1,
	// which knows none of the fields below.
	Protocol uint8
	// DrainsFor is why the node may have to hand VIPs over. A node that does not say it
	// drains whenever Draining is set.
	DrainsFor DrainCauses
	// Stays are the VIPs that the node has and keeps under FailbackNever, sorted: others
	// would win an election for them.
	Stays []netip.Addr
	// Unforwarded are the families whose packets the node does not forward, sorted. The node
	// is not a candidate for their VIPs.
	Unforwarded []Family
}

// Forwards reports whether the node forwards the packets of addr's family.
func (e *Electable) Forwards(addr netip.Addr) bool {
	return !slices.Contains(e.Unforwarded, FamilyOf(addr))
}

// Drains reports whether the node hands over VIPs whose Announcements say so for on.
func (e *Electable) Drains(on DrainCauses) bool {
	if e.DrainsFor == 0 {
		return e.Draining
	}
	return e.DrainsFor&(on|DrainRemoval) != 0
}

// HasAddr reports whether addrs, which are sorted, have addr.
func HasAddr(addrs []netip.Addr, addr netip.Addr) bool {
	_, found := slices.BinarySearchFunc(addrs, addr, netip.Addr.Compare)
	return found
}

// Engine is what forwards on a node.
type Engine struct {
	Mode        string // such as nftables
	Message     string // what is missing if the node is not in sync
	Services    int    // that it serves
	Endpoints   int    // of these Services
	Accelerator Accelerator
	LocalPods   *LocalPods // nil: it is not known by routes which pods are the node's
}

// LocalPods is what a node's routes show of its pods.
type LocalPods struct {
	Count  int              // addresses outside of the Node's podCIDRs with a route over a pod's link
	Links  string           // these links: one name, or how all begin, as in "cali*"; "" if there is none
	Routes []netipx.IPRange // the addresses, sorted; fewer than Count if they are too many for the API
}

// Addrs returns the addresses of Routes, sorted, Count at most: a range that somebody
// else wrote may be of any size.
func (l *LocalPods) Addrs() []netip.Addr {
	var out []netip.Addr
	if l == nil {
		return nil
	}
	for _, r := range l.Routes {
		for a := r.From(); a.IsValid() && a.Compare(r.To()) <= 0 && len(out) < l.Count; a = a.Next() {
			out = append(out, a)
		}
	}
	return out
}

// String names what forwards, with what stands before it: "nftables+ebpf".
func (e Engine) String() string {
	if !e.Accelerator.On() {
		return e.Mode
	}
	return e.Mode + "+" + e.Accelerator.Mode
}

// AcceleratorOff is the Mode of an Accelerator that forwards nothing.
const AcceleratorOff = "off"

// Accelerator is what stands before a node's engine.
type Accelerator struct {
	Mode          string // ebpf or AcceleratorOff; "" if there is none
	Message       string // why it is off, or what it leaves to the engine
	LeftFrontends int    // addresses and ports with endpoints that it leaves to the engine
}

// On reports whether the accelerator forwards anything.
func (a Accelerator) On() bool { return a.Mode != "" && a.Mode != AcceleratorOff }

// Announced is one VIP that a node announces, on one link or over BGP.
type Announced struct {
	Addr    netip.Addr
	Link    string    // "": over BGP
	MAC     string    // of the link
	Peers   int       // established BGP sessions over which it is announced
	Service string    // one of its holders, as namespace/name
	Since   time.Time // when the node began to announce it; zero: not known
	Leaving bool      // it is being handed over to the next owner
	Stays   bool      // the node keeps it, although another may be preferred: see Electable
	// Gap is how long nobody answered for it at most when the node took it from one that
	// died; 0 if that was not measured.
	Gap time.Duration
}

// Refused is one VIP that is not announced, and why.
type Refused struct {
	Addr netip.Addr
	Refusal
}

// Silent is a node whose agent another agent does not hear.
type Silent struct {
	Node        string
	Verdict     string // agent-gone or node-gone: see announcer.Verdict
	Quarantined bool   // its endpoints take no connection
}

// PeerState is a node's session with one BGPPeer.
type PeerState struct {
	Name      string
	Address   string    // of the router; "" if the BGPPeer is refused
	State     string    // of the session as RFC 4271 section 8.2.2 names it, or PeerRefused
	Since     time.Time // when the session was established or lost; zero: not known
	LastError string    // why it is not established or refused, or what it cannot carry
	Prefixes  int       // that are announced over it
	BFD       string    // state of the BFD session; "" if there is none
}

// Established reports whether the session exchanges routes.
func (p PeerState) Established() bool { return p.State == PeerEstablished }

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

// Link is a network link of a node that could carry a VIP: up, with carrier,
// with ARP, without a master.
type Link struct {
	Name     string
	Index    int
	MAC      string
	Prefixes []netip.Prefix // its own addresses with their lengths, VIPs excluded
}

// Contains reports whether one of the link's own prefixes contains addr.
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
