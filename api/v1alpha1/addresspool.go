package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AddressPool is a set of addresses that Services of type LoadBalancer get
// theirs from. A pool that no Announcement selects is announced over layer 2 on
// every suitable link.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=pool,categories=fairlead
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`
// +kubebuilder:printcolumn:name="Auto",type=boolean,JSONPath=`.spec.autoAssign`
// +kubebuilder:printcolumn:name="Free4",type=integer,JSONPath=`.status.ipv4.free`
// +kubebuilder:printcolumn:name="Free6",type=integer,JSONPath=`.status.ipv6.free`
// +kubebuilder:printcolumn:name="Assigned4",type=integer,priority=1,JSONPath=`.status.ipv4.assigned`
// +kubebuilder:printcolumn:name="Assigned6",type=integer,priority=1,JSONPath=`.status.ipv6.assigned`
// +kubebuilder:printcolumn:name="Priority",type=integer,priority=1,JSONPath=`.spec.priority`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type AddressPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec AddressPoolSpec `json:"spec"`
	// +optional
	Status AddressPoolStatus `json:"status,omitzero"`
}

// AddressPoolSpec is what the owner of the cluster asks for.
//
// +kubebuilder:validation:XValidation:rule="[has(self.addresses) || has(self.fromPrefix), has(self.nodeAddresses), has(self.fromDHCP)].filter(x, x).size() == 1",message="a pool has either addresses, fromPrefix or both of them, or nodeAddresses, or fromDHCP"
// +kubebuilder:validation:XValidation:rule="!has(self.fromDHCP) || !(has(self.exclude) || has(self.reservations) || has(self.coolDown))",message="exclude, reservations and coolDown are for pools with addresses: the DHCP server chooses what it leases"
// +kubebuilder:validation:XValidation:rule="!has(self.nodeAddresses) || !(has(self.exclude) || has(self.reservations) || has(self.maxPerNamespace) || has(self.coolDown))",message="exclude, reservations, maxPerNamespace and coolDown are for pools with addresses: Services share the nodes' addresses by port"
type AddressPoolSpec struct {
	// Addresses lists what the pool gives, each entry a CIDR (192.0.2.0/25,
	// 2001:db8::/112), an inclusive range (192.0.2.200-192.0.2.220) or a single
	// address. Both families may be mixed. A pool must not overlap an older pool
	// nor the cluster's own pods and Services: otherwise it gives nothing at all
	// and has the condition Conflicting. It does not give addresses of nodes.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=2
	// +kubebuilder:validation:items:MaxLength=85
	// +kubebuilder:validation:items:Pattern=`^[0-9A-Fa-f.:]+(/[0-9]{1,3}| *- *[0-9A-Fa-f.:]+)?$`
	// +kubebuilder:validation:items:XValidation:rule="self.contains('.') || self.contains(':')",message="not an address such as 192.0.2.5, a CIDR such as 192.0.2.0/24 or a range such as 192.0.2.1-192.0.2.9"
	// +kubebuilder:validation:items:XValidation:rule="!(self.contains('.') && self.contains(':'))",message="both ends of a range must be of one family"
	// +kubebuilder:validation:items:XValidation:rule="!self.contains('.') || self.contains(':') || self.matches('^(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])([.](25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3}(/(3[0-2]|[12]?[0-9])| *- *(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])([.](25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3})?$')",message="not an IPv4 address, CIDR or range: octets are 0 to 255, prefix lengths 0 to 32, without leading zeros"
	// +kubebuilder:validation:items:XValidation:rule="!self.contains(':') || self.contains('.') || self.matches('^(([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|([0-9A-Fa-f]{1,4}:){1,7}:|([0-9A-Fa-f]{1,4}:){1,6}:[0-9A-Fa-f]{1,4}|([0-9A-Fa-f]{1,4}:){1,5}(:[0-9A-Fa-f]{1,4}){1,2}|([0-9A-Fa-f]{1,4}:){1,4}(:[0-9A-Fa-f]{1,4}){1,3}|([0-9A-Fa-f]{1,4}:){1,3}(:[0-9A-Fa-f]{1,4}){1,4}|([0-9A-Fa-f]{1,4}:){1,2}(:[0-9A-Fa-f]{1,4}){1,5}|([0-9A-Fa-f]{1,4}:){1,1}(:[0-9A-Fa-f]{1,4}){1,6}|:((:[0-9A-Fa-f]{1,4}){1,7}|:))(/(12[0-8]|1[01][0-9]|[1-9]?[0-9])| *- *(([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|([0-9A-Fa-f]{1,4}:){1,7}:|([0-9A-Fa-f]{1,4}:){1,6}:[0-9A-Fa-f]{1,4}|([0-9A-Fa-f]{1,4}:){1,5}(:[0-9A-Fa-f]{1,4}){1,2}|([0-9A-Fa-f]{1,4}:){1,4}(:[0-9A-Fa-f]{1,4}){1,3}|([0-9A-Fa-f]{1,4}:){1,3}(:[0-9A-Fa-f]{1,4}){1,4}|([0-9A-Fa-f]{1,4}:){1,2}(:[0-9A-Fa-f]{1,4}){1,5}|([0-9A-Fa-f]{1,4}:){1,1}(:[0-9A-Fa-f]{1,4}){1,6}|:((:[0-9A-Fa-f]{1,4}){1,7}|:)))?$')",message="not an IPv6 address, CIDR or range: up to eight groups of up to four hex digits, prefix lengths 0 to 128"
	// +kubebuilder:validation:items:XValidation:rule="!self.matches('^[0-9]{1,3}([.][0-9]{1,3}){3}/(3[0-2]|[12]?[0-9])$') || [self.split('/')[0].split('.')].all(o, (int(o[0]) * 16777216 + int(o[1]) * 65536 + int(o[2]) * 256 + int(o[3])) % [4294967296, 2147483648, 1073741824, 536870912, 268435456, 134217728, 67108864, 33554432, 16777216, 8388608, 4194304, 2097152, 1048576, 524288, 262144, 131072, 65536, 32768, 16384, 8192, 4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1][int(self.split('/')[1])] == 0)",message="the address has bits set beyond the prefix length: write the first address of the block"
	// +kubebuilder:validation:items:XValidation:rule="!self.matches('^[0-9]{1,3}([.][0-9]{1,3}){3} *- *[0-9]{1,3}([.][0-9]{1,3}){3}$') || [[self.replace(' ', '').split('-')[0].split('.'), self.replace(' ', '').split('-')[1].split('.')]].all(e, int(e[0][0]) * 16777216 + int(e[0][1]) * 65536 + int(e[0][2]) * 256 + int(e[0][3]) <= int(e[1][0]) * 16777216 + int(e[1][1]) * 65536 + int(e[1][2]) * 256 + int(e[1][3]))",message="the range ends before it begins"
	Addresses []string `json:"addresses,omitempty"`

	// NodeAddresses makes the pool give the nodes' own addresses instead. Nothing is
	// announced. Each Service gets the addresses of all selected nodes that are ready,
	// and the Services of such pools share them by port: no two have the same port of a
	// node. Ports of the nodes' own programs, and the node ports of Services, are
	// refused.
	//
	// +optional
	NodeAddresses *NodeAddresses `json:"nodeAddresses,omitempty"`

	// FromPrefix makes the pool give IPv6 addresses of the prefix that a router announces
	// on the nodes' network, beside addresses if the pool has any. The addresses follow
	// the prefix when it changes.
	//
	// +optional
	FromPrefix *FromPrefix `json:"fromPrefix,omitempty"`

	// FromDHCP makes the pool lease an address for each Service from the DHCP servers of
	// the nodes' network.
	//
	// +optional
	FromDHCP *FromDHCP `json:"fromDHCP,omitempty"`

	// Exclude lists what of addresses the pool does not give, each entry as in
	// addresses. Services that hold one keep it.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	Exclude []AddressRange `json:"exclude,omitempty"`

	// Reservations keep addresses of the pool for Services by name: no other Service
	// gets one, and the Service that is named gets it without asking, also when it
	// is made again. It needs a reservation for each of its families; otherwise it
	// is served as any other. A Service that holds an address already keeps that one.
	//
	// +optional
	// +listType=map
	// +listMapKey=address
	// +kubebuilder:validation:MaxItems=256
	Reservations []Reservation `json:"reservations,omitempty"`

	// MaxPerNamespace is how many addresses of the pool the Services of one
	// namespace may hold. A shared address counts once, and both addresses of a
	// dual-stack Service count. Services that hold more keep them. Absent: no
	// limit.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxPerNamespace *int32 `json:"maxPerNamespace,omitempty"`

	// CoolDown is how long an address that is free again stays with its former
	// namespace: others get one of the pool's other addresses, while there are
	// any, because clients may still know the address from DNS. At most 24h; 0s is
	// not at all. Default 10m.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') || duration(self) <= duration('24h')",message="coolDown must be at most 24h"
	CoolDown *metav1.Duration `json:"coolDown,omitempty"`

	// AutoAssign gives the pool's addresses to Services that name no pool and
	// no address. With false they are given only on request. Default true.
	//
	// +optional
	// +kubebuilder:default=true
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// AvoidBuggyIPs never gives IPv4 addresses that end in .0 or .255, which
	// some old equipment takes for a network or a broadcast address. Default
	// false.
	//
	// +optional
	AvoidBuggyIPs bool `json:"avoidBuggyIPs,omitempty"`

	// Disabled drains the pool: holders keep their addresses, nothing new is
	// given. Default false.
	//
	// +optional
	Disabled bool `json:"disabled,omitempty"`

	// Priority orders pools for automatic assignment: the lowest number first,
	// pools without one last. Of equals, those that are restricted by namespace
	// or selector come first, then the name decides.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	Priority *int32 `json:"priority,omitempty"`

	// Namespaces restricts the pool to Services in these namespaces. Empty
	// together with an absent namespaceSelector: all. If both are given, either
	// is enough.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	Namespaces []string `json:"namespaces,omitempty"`

	// NamespaceSelector restricts the pool to Services in namespaces with
	// matching labels. Absent or empty: any.
	//
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`

	// ServiceSelector restricts the pool to Services with matching labels.
	// Absent or empty: any.
	//
	// +optional
	ServiceSelector *metav1.LabelSelector `json:"serviceSelector,omitempty"`
}

// NodeAddresses selects the nodes whose addresses a pool gives: of each family their
// ExternalIPs if one of the nodes has any, and otherwise their InternalIPs.
type NodeAddresses struct {
	// NodeSelector selects nodes by their labels. Absent or empty: all. Nodes with the
	// label node.kubernetes.io/exclude-from-external-load-balancers are left out.
	//
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
}

// FromPrefix says which prefix the addresses of a pool follow, and which addresses in it
// the pool gives.
type FromPrefix struct {
	// Interface is the name of the nodes' link on which the router announces the prefix,
	// such as eth0. The prefix is that of more than half of the nodes with such a link
	// and a prefix on it.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:Pattern=`^[^\s/:]+$`
	Interface string `json:"interface"`

	// Host is which addresses of the prefix the pool gives, by their last 64 bits: one,
	// such as ::10, or an inclusive range, such as ::10-::ff.
	//
	// +required
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:Pattern=`^::([0-9A-Fa-f]{1,4}:){0,3}[0-9A-Fa-f]{1,4}( *- *::([0-9A-Fa-f]{1,4}:){0,3}[0-9A-Fa-f]{1,4})?$`
	Host string `json:"host"`

	// Scope is the kind of prefix: Global for addresses that the Internet routes, or
	// UniqueLocal for those of fc00::/7. Default Global.
	//
	// +optional
	// +kubebuilder:default=Global
	Scope PrefixScope `json:"scope,omitempty"`

	// NodeSelector selects the nodes that are asked for the prefix. Absent or empty: all.
	//
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`

	// Grace is how long Services keep their addresses of the former prefix beside those
	// of the new one after a change. At most 168h. Default 1h.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') || duration(self) <= duration('168h')",message="grace must be at most 168h"
	Grace *metav1.Duration `json:"grace,omitempty"`
}

// FromDHCP says where the addresses of a pool are leased, and which ones are refused.
type FromDHCP struct {
	// Interface is the name of the nodes' link on which the DHCP servers are, such as
	// eth0. One of the nodes with such a link leases.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:Pattern=`^[^\s/:]+$`
	Interface string `json:"interface"`

	// Families are those that the network's DHCP servers lease: IPv4 by DHCP, IPv6 by
	// DHCPv6. Default IPv4.
	//
	// +optional
	// +listType=set
	// +kubebuilder:default={IPv4}
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:Enum=IPv4;IPv6
	Families []corev1.IPFamily `json:"families,omitempty"`

	// Servers are the addresses of the servers whose leases count. A server of IPv6 has a
	// link-local one. Absent: those of every server.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	Servers []IPAddress `json:"servers,omitempty"`

	// Subnets are the CIDRs whose addresses are accepted. Absent: those of the node's
	// own subnets on the link.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=4
	// +kubebuilder:validation:items:MaxLength=43
	Subnets []string `json:"subnets,omitempty"`

	// NodeSelector selects the nodes that lease. Absent or empty: all.
	//
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
}

// PrefixScope is a kind of IPv6 prefix.
//
// +kubebuilder:validation:Enum=Global;UniqueLocal
type PrefixScope string

// The kinds of prefixes.
const (
	PrefixGlobal      PrefixScope = "Global"
	PrefixUniqueLocal PrefixScope = "UniqueLocal"
)

// Reservation keeps one address for one Service.
type Reservation struct {
	// Address is an address of the pool.
	//
	// +required
	Address IPAddress `json:"address"`

	// Namespace is that of the Service.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`

	// Name is that of the Service.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
}

// AddressRange is an address, a CIDR or an inclusive range of addresses.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=85
// +kubebuilder:validation:Pattern=`^[0-9A-Fa-f.:]+(/[0-9]{1,3}| *- *[0-9A-Fa-f.:]+)?$`
// +kubebuilder:validation:XValidation:rule="self.contains(':') ? self.matches('^(([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|([0-9A-Fa-f]{1,4}:){1,7}:|([0-9A-Fa-f]{1,4}:){1,6}:[0-9A-Fa-f]{1,4}|([0-9A-Fa-f]{1,4}:){1,5}(:[0-9A-Fa-f]{1,4}){1,2}|([0-9A-Fa-f]{1,4}:){1,4}(:[0-9A-Fa-f]{1,4}){1,3}|([0-9A-Fa-f]{1,4}:){1,3}(:[0-9A-Fa-f]{1,4}){1,4}|([0-9A-Fa-f]{1,4}:){1,2}(:[0-9A-Fa-f]{1,4}){1,5}|([0-9A-Fa-f]{1,4}:){1,1}(:[0-9A-Fa-f]{1,4}){1,6}|:((:[0-9A-Fa-f]{1,4}){1,7}|:))(/|$| *-)') : self.matches('^(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])([.](25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3}(/|$| *-)')",message="does not begin with an IPv4 or IPv6 address"
type AddressRange string

// AddressPoolStatus is what the controller last saw and did.
type AddressPoolStatus struct {
	// ObservedGeneration is the metadata.generation that the rest describes.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// IPv4 counts the pool's IPv4 addresses.
	//
	// +optional
	IPv4 AddressCount `json:"ipv4,omitzero"`

	// IPv6 counts the pool's IPv6 addresses.
	//
	// +optional
	IPv6 AddressCount `json:"ipv6,omitzero"`

	// Prefixes are those that a pool with fromPrefix knows, sorted: at most one that is
	// Current.
	//
	// +optional
	// +listType=map
	// +listMapKey=prefix
	// +kubebuilder:validation:MaxItems=16
	Prefixes []PoolPrefix `json:"prefixes,omitempty"`

	// Leases are those that a pool with fromDHCP wants or has, sorted by Service.
	//
	// +optional
	// +listType=map
	// +listMapKey=namespace
	// +listMapKey=name
	// +listMapKey=family
	// +kubebuilder:validation:MaxItems=64
	Leases []PoolLease `json:"leases,omitempty"`

	// Conditions: Ready is True when the pool gives addresses, and otherwise
	// its reason says why not; Conflicting is True when something else has some
	// of its addresses, and its message says what; Prefix, which a pool with
	// fromPrefix has, is True while the nodes agree on its prefix; Leases, which
	// a pool with fromDHCP has, is True while it has the leases that its Services
	// want.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// PoolLease is a DHCP lease for one Service.
type PoolLease struct {
	// Namespace of the Service.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`

	// Name of the Service.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// Family of the address.
	//
	// +required
	// +kubebuilder:validation:Enum=IPv4;IPv6
	Family corev1.IPFamily `json:"family"`

	// Client is what the client identifier is made of, by which the servers know the
	// lease: the UID of the Service that it was made for.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Client string `json:"client"`

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

	// Until is when the lease ends if no node renews it.
	//
	// +optional
	Until *metav1.Time `json:"until,omitempty"`

	// Message says what is wrong; empty if nothing is.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}

// PoolPrefix is a prefix that a pool gives addresses of, gave addresses of, or may soon.
type PoolPrefix struct {
	// Prefix is an IPv6 prefix of 64 bits, such as 2001:db8:1::/64.
	//
	// +required
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=43
	Prefix string `json:"prefix"`

	// State is Candidate, while the nodes have seen the prefix for a few seconds only;
	// Current, while the pool gives its addresses; Leaving, while Services keep its
	// addresses beside those of the current one; Former, while they lose them.
	//
	// +required
	State PrefixState `json:"state"`

	// Since is when the prefix came into its state.
	//
	// +required
	Since metav1.Time `json:"since"`

	// Until is when a prefix that is Leaving becomes Former.
	//
	// +optional
	Until *metav1.Time `json:"until,omitempty"`
}

// PrefixState is how a pool stands to a prefix.
//
// +kubebuilder:validation:Enum=Candidate;Current;Leaving;Former
type PrefixState string

// AddressCount counts addresses of one family. Counts stop at 2^63-1.
type AddressCount struct {
	// Total is how many addresses the pool can give, held ones included.
	//
	// +optional
	Total int64 `json:"total"`
	// Assigned is how many of them are held.
	//
	// +optional
	Assigned int64 `json:"assigned"`
	// Free is how many are not.
	//
	// +optional
	Free int64 `json:"free"`
}

// AddressPoolList is a list of AddressPools.
//
// +kubebuilder:object:root=true
type AddressPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []AddressPool `json:"items"`
}
