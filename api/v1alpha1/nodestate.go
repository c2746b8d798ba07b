package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeState is what the agent of the node of the same name says of itself: its
// links, whether its engine holds what it should, what it announces and what it
// decided not to. Agents write their own and nothing else; the controller
// deletes those of nodes that are gone.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=nodestate,categories=fairlead
// +kubebuilder:printcolumn:name="Engine",type=string,JSONPath=`.status.engine.mode`
// +kubebuilder:printcolumn:name="In-Sync",type=boolean,JSONPath=`.status.engine.inSync`
// +kubebuilder:printcolumn:name="Announces",type=integer,JSONPath=`.status.announcesCount`
// +kubebuilder:printcolumn:name="Refused",type=integer,JSONPath=`.status.refusedCount`
// +kubebuilder:printcolumn:name="Draining",type=boolean,priority=1,JSONPath=`.status.draining`
// +kubebuilder:printcolumn:name="Services",type=integer,priority=1,JSONPath=`.status.engine.services`
// +kubebuilder:printcolumn:name="Endpoints",type=integer,priority=1,JSONPath=`.status.engine.endpoints`
// +kubebuilder:printcolumn:name="Director",type=boolean,priority=1,JSONPath=`.status.director.able`
// +kubebuilder:printcolumn:name="Version",type=string,priority=1,JSONPath=`.status.agentVersion`
// +kubebuilder:printcolumn:name="Renewed",type=date,JSONPath=`.status.renewTime`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NodeState struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec NodeStateSpec `json:"spec,omitzero"`
	// +optional
	Status NodeStateStatus `json:"status,omitzero"`
}

// NodeStateSpec is empty: nobody asks a NodeState for anything.
type NodeStateSpec struct{}

// NodeStateStatus is written whole by the node's agent.
type NodeStateStatus struct {
	// RenewTime is when the agent last wrote this, by the node's clock. For
	// people: clocks differ, so no decision compares it with another one. An agent
	// that has nothing new to say writes every 10 to 15 minutes.
	//
	// +optional
	RenewTime *metav1.MicroTime `json:"renewTime,omitempty"`

	// AgentVersion is the version of the agent's binary.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=128
	AgentVersion string `json:"agentVersion,omitempty"`

	// ReportKey is the public key, Ed25519 in base64, that the agent signs its reports to
	// the other agents with. The controller tells the others. Absent: it does not sign.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	ReportKey string `json:"reportKey,omitempty"`

	// Engine is the state of the forwarding engine.
	//
	// +optional
	Engine EngineState `json:"engine,omitzero"`

	// Draining tells that the node hands its addresses over to others.
	//
	// +optional
	Draining bool `json:"draining"`

	// DrainsFor lists why the node may have to hand addresses over: whether it does, the
	// Announcements' drainOn says.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=4
	DrainsFor []DrainCause `json:"drainsFor,omitempty"`

	// Links that could carry a VIP, sorted by name.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	Links []NodeLink `json:"links,omitempty"`

	// Prefixes are the IPv6 prefixes that routers announce on the node's links, sorted by
	// link, then prefix: those in which the node gave itself an address.
	//
	// +optional
	// +listType=map
	// +listMapKey=link
	// +listMapKey=prefix
	// +kubebuilder:validation:MaxItems=64
	Prefixes []LinkPrefix `json:"prefixes,omitempty"`

	// Leases are the DHCP leases that the node keeps for pools with fromDHCP, sorted by
	// pool, then client and family.
	//
	// +optional
	// +listType=map
	// +listMapKey=pool
	// +listMapKey=client
	// +listMapKey=family
	// +kubebuilder:validation:MaxItems=256
	Leases []NodeLease `json:"leases,omitempty"`

	// AnnouncesCount is how many addresses the node announces. It may exceed the
	// length of announces.
	//
	// +optional
	AnnouncesCount int32 `json:"announcesCount"`

	// Announces lists the addresses that the node announces now, sorted by
	// address, then link.
	//
	// +optional
	// +listType=map
	// +listMapKey=address
	// +listMapKey=link
	Announces []AnnouncedAddress `json:"announces,omitempty"`

	// Silent lists the nodes whose agents this one does not hear, with its verdict
	// on them, sorted by name. The API server has no part in that. In a cluster of
	// more than five nodes only some nodes list each of them.
	//
	// +optional
	// +listType=map
	// +listMapKey=node
	// +kubebuilder:validation:MaxItems=4096
	Silent []SilentNode `json:"silent,omitempty"`

	// RefusedCount is how many addresses the node decided not to announce. It
	// may exceed the length of refused.
	//
	// +optional
	RefusedCount int32 `json:"refusedCount"`

	// Refused lists addresses that the node was elected for and decided not to
	// announce, and some that no node can announce, with the reason, sorted by
	// address.
	//
	// +optional
	// +listType=map
	// +listMapKey=address
	Refused []RefusedAddress `json:"refused,omitempty"`

	// Findings lists what the node learnt of addresses on the network by probes and
	// by listening, sorted by address: what their Address objects do not say yet,
	// and claims that go on. The controller copies it there.
	//
	// +optional
	// +listType=map
	// +listMapKey=address
	// +kubebuilder:validation:MaxItems=1000
	Findings []AddressFinding `json:"findings,omitempty"`

	// ProblemsCount is how many problems the node has with single Services. It
	// may exceed the length of problems.
	//
	// +optional
	ProblemsCount int32 `json:"problemsCount"`

	// Problems lists what the node could not do for single Services, or what
	// their owners should know, sorted by Service. The controller tells it in the
	// Services' condition fairlead.io/NodePorts.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	Problems []ServiceProblem `json:"problems,omitempty"`

	// Peers are the node's BGP sessions, and the BGPPeers that it cannot hold one
	// with, sorted by name.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=256
	Peers []PeerState `json:"peers,omitempty"`

	// Director is what the node can do for addresses whose forwarding is Direct.
	// Absent: the agent is of an earlier version, which is not able.
	//
	// +optional
	Director *DirectorState `json:"director,omitempty"`

	// Conditions of the node as fairlead's agent sees it.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// LinkPrefix is an IPv6 prefix that a router announces on a link.
type LinkPrefix struct {
	// Link is the name of the link, such as eth0.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Link string `json:"link"`

	// Prefix is the prefix, of 64 bits, such as 2001:db8:1::/64.
	//
	// +required
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=43
	Prefix string `json:"prefix"`

	// Deprecated tells that the router lets the prefix go: new connections are not to use
	// it, or it is not announced any more.
	//
	// +optional
	Deprecated bool `json:"deprecated,omitempty"`
}

// NodeLease is a DHCP lease that a node keeps, or asks for.
type NodeLease struct {
	// Pool is the AddressPool that wants it.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Pool string `json:"pool"`

	// Client is what the client identifier is made of: the client of the pool's lease.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Client string `json:"client"`

	// Family of the address.
	//
	// +required
	// +kubebuilder:validation:Enum=IPv4;IPv6
	Family corev1.IPFamily `json:"family"`

	// Address that is leased; empty while none is.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=39
	Address string `json:"address,omitempty"`

	// Server that leased the address.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=39
	Server string `json:"server,omitempty"`

	// Until is when the lease ends if nobody renews it, by the node's clock.
	//
	// +optional
	Until *metav1.Time `json:"until,omitempty"`

	// At is when this came to be so, by the node's clock.
	//
	// +required
	At metav1.Time `json:"at"`

	// Message says what is wrong.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}

// DirectorState is what a node can do for addresses whose forwarding is Direct.
type DirectorState struct {
	// Able is true if the node passes packets on, and takes those that others pass
	// on to it.
	//
	// +optional
	Able bool `json:"able"`

	// Message says why the node is not able, or what it has to do without.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Message string `json:"message,omitempty"`

	// Links take packets that other nodes pass on, sorted by name.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=256
	Links []DirectorLink `json:"links,omitempty"`

	// Reaches names nodes of other subnets to which the node passes packets on behind a
	// header, sorted: the first 256.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=253
	Reaches []string `json:"reaches,omitempty"`
}

// DirectorLink is a link that takes packets which other nodes pass on.
type DirectorLink struct {
	// Name of the link, such as eth0.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Name string `json:"name"`

	// MAC address of the link, lower case with colons.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	MAC string `json:"mac,omitempty"`

	// Addresses of the node on the link, to which other nodes pass packets on.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=39
	Addresses []string `json:"addresses,omitempty"`
}

// PeerState is a node's BGP session with one BGPPeer.
type PeerState struct {
	// Name of the BGPPeer.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Address of the router.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=55
	Address string `json:"address,omitempty"`

	// State of the session as RFC 4271 section 8.2.2 names it, or Refused if the
	// BGPPeer cannot be used as it is.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	State string `json:"state"`

	// Since is when the session was established or lost.
	//
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// LastError says in words why the session is not established, or, of one that
	// is, what it cannot carry.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	LastError string `json:"lastError,omitempty"`

	// Prefixes is how many prefixes are announced over the session.
	//
	// +optional
	Prefixes int32 `json:"prefixes"`

	// BFD is the state of the BFD session, if the BGPPeer asks for one: AdminDown,
	// Down, Init or Up.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=16
	BFD string `json:"bfd,omitempty"`
}

// AcceleratorState is the state of what stands before a node's forwarding engine.
type AcceleratorState struct {
	// Mode is ebpf, or off if the engine forwards everything.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Mode string `json:"mode,omitempty"`

	// Message says why it is off, or what it leaves to the engine.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Message string `json:"message,omitempty"`

	// LeftCount is how many addresses and ports with endpoints it leaves to the
	// engine.
	//
	// +optional
	LeftCount int32 `json:"leftCount,omitempty"`
}

// EngineState is the state of a node's forwarding engine.
type EngineState struct {
	// Mode is the engine's name, such as nftables.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Mode string `json:"mode,omitempty"`

	// InSync reports whether the kernel holds everything that the agent last asked
	// for. A node whose engine is not in sync announces nothing new.
	//
	// +optional
	InSync bool `json:"inSync"`

	// Message says what is missing when it is not in sync.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Message string `json:"message,omitempty"`

	// Unforwarded lists the IP families whose packets the node does not forward. The node
	// announces no address of them. The message, or the condition Sysctls, says why.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:Enum=IPv4;IPv6
	Unforwarded []corev1.IPFamily `json:"unforwarded,omitempty"`

	// Accelerator is what stands before the engine: it connects the sockets of the
	// node's own pods to endpoints.
	//
	// +optional
	Accelerator AcceleratorState `json:"accelerator,omitzero"`

	// LocalPods is how the engine knows the node's own pods, beside the Node's podCIDRs
	// and the EndpointSlices that name the node. It is absent if the agent was told how
	// (--detect-local), or does not forward.
	//
	// +optional
	LocalPods *LocalPods `json:"localPods,omitempty"`

	// Services is how many Services the engine serves.
	//
	// +optional
	Services int32 `json:"services"`

	// Endpoints is how many endpoints they have together.
	//
	// +optional
	Endpoints int32 `json:"endpoints"`
}

// LocalPods is what a node's routes show of its pods.
type LocalPods struct {
	// RoutesCount is how many addresses of pods outside of the Node's podCIDRs the node
	// has a route to, over a link of that pod.
	//
	// +optional
	RoutesCount int32 `json:"routesCount"`

	// Links names these links: one name, or how all of them begin, as in cali*.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Links string `json:"links,omitempty"`

	// Routes are the addresses, sorted: 192.0.2.5, or 192.0.2.8-192.0.2.12 for several
	// in a row. It may hold fewer than routesCount.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=79
	Routes []string `json:"routes,omitempty"`
}

// NodeLink is a network link of a node that is up, with carrier and ARP, without
// a master.
type NodeLink struct {
	// Name of the link, such as eth0.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Name string `json:"name"`

	// MAC address of the link, lower case with colons. Hosts that answer with
	// the MAC of any node are ours and never a conflict.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	MAC string `json:"mac,omitempty"`

	// Prefixes are the link's own addresses with their prefix lengths, VIPs
	// excluded, such as 192.0.2.5/24.
	//
	// +optional
	// +listType=set
	Prefixes []string `json:"prefixes,omitempty"`
}

// AnnouncedAddress is one address on one link.
type AnnouncedAddress struct {
	// Address that is announced.
	//
	// +required
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=39
	Address string `json:"address"`

	// Link that it is announced on; empty for BGP, which is not bound to one.
	//
	// +optional
	// +default=""
	// +kubebuilder:validation:MaxLength=64
	Link string `json:"link"`

	// MAC address that it is announced with.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	MAC string `json:"mac,omitempty"`

	// Peers is over how many established BGP sessions it is announced.
	//
	// +optional
	Peers int32 `json:"peers,omitempty"`

	// Service is one of its holders, as namespace/name.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=127
	Service string `json:"service,omitempty"`

	// Since is when the node began to announce it.
	//
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// Leaving tells that the node hands the address over: it holds it until the
	// next owner, which announces it already, has had the time to say so.
	//
	// +optional
	Leaving bool `json:"leaving,omitempty"`

	// Stays tells that the node keeps the address by failback: Never, although another
	// node may be preferred for it.
	//
	// +optional
	Stays bool `json:"stays,omitempty"`

	// GapMilliseconds is for how long nobody answered for the address at most, if the
	// node took it from one that died: from the last answer of that node until this
	// one announced the address.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	GapMilliseconds int32 `json:"gapMilliseconds,omitempty"`
}

// SilentNode is a node whose agent is not heard.
type SilentNode struct {
	// Node is its name.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node"`

	// Verdict is agent-gone if the node's kernel answers (it keeps its addresses
	// for a while), node-gone if it does not.
	//
	// +required
	// +kubebuilder:validation:Enum=agent-gone;node-gone
	Verdict string `json:"verdict"`

	// Quarantined tells that the node's endpoints take no connection here as long
	// as there are others.
	//
	// +optional
	Quarantined bool `json:"quarantined,omitempty"`
}

// RefusedAddress is an address that the node decided not to announce.
type RefusedAddress struct {
	// Address that is not announced.
	//
	// +required
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=39
	Address string `json:"address"`

	// Reason is a CamelCase word: the same as in conditions, Events and metrics.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Z][A-Za-z0-9]*$`
	Reason string `json:"reason"`

	// Message says it in plain words.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Message string `json:"message,omitempty"`
}

// ServiceProblem is something about one Service on this node.
type ServiceProblem struct {
	// Service as namespace/name.
	//
	// +required
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=127
	Service string `json:"service"`

	// Reason is a CamelCase word: the same as in conditions, Events and metrics.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Z][A-Za-z0-9]*$`
	Reason string `json:"reason"`

	// Message says it in plain words.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}

// NodeStateList is a list of NodeStates.
//
// +kubebuilder:object:root=true
type NodeStateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []NodeState `json:"items"`
}
