package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Announcement says how, where and by which nodes the addresses of the pools
// that it selects are announced. Without any, addresses are announced over
// layer 2 on every suitable link of every node: one that is up, with carrier and
// ARP, without a master, and has an address whose prefix contains the VIP.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=ann,categories=fairlead
// +kubebuilder:printcolumn:name="Interfaces",type=string,JSONPath=`.spec.l2.interfaces`
// +kubebuilder:printcolumn:name="Peers",type=string,JSONPath=`.spec.bgp.peers`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Announcement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec AnnouncementSpec `json:"spec"`
	// +optional
	Status AnnouncementStatus `json:"status,omitzero"`
}

// AnnouncementSpec selects pools and Services, and names the way.
//
// +kubebuilder:validation:XValidation:rule="!has(self.bgp) || !has(self.failback)",message="failback is for l2: over BGP every selected node announces"
// +kubebuilder:validation:XValidation:rule="has(self.l2) != has(self.bgp)",message="give exactly one of l2 and bgp (l2: {} means every suitable link)"
type AnnouncementSpec struct {
	// PoolSelector selects AddressPools by their labels. Absent or empty: all.
	//
	// +optional
	PoolSelector *metav1.LabelSelector `json:"poolSelector,omitempty"`

	// ServiceSelector selects Services by their labels. Absent or empty: all. Of
	// an address that several Services share, it must select each.
	//
	// +optional
	ServiceSelector *metav1.LabelSelector `json:"serviceSelector,omitempty"`

	// NodeSelector selects the nodes that may announce, by their labels. Absent
	// or empty: all.
	//
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`

	// PreferredNodes adds weight to nodes. Of the nodes that can announce an
	// address, those with the highest sum are the candidates for it.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	PreferredNodes []PreferredNodes `json:"preferredNodes,omitempty"`

	// Failback says whether addresses return to a node that is preferred for them when
	// it has been healthy for a minute. AfterHealth, the default: they do. Never: an
	// address stays as long as its owner is well, until "fairlead rebalance".
	//
	// +optional
	// +kubebuilder:validation:Enum=AfterHealth;Never
	Failback Failback `json:"failback,omitempty"`

	// DrainOn lists when a node hands its addresses over: Deletion of its Node, Shutdown
	// of the machine, the out-of-service taint, Cordon. Absent: all but Cordon.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=4
	DrainOn []DrainCause `json:"drainOn,omitempty"`

	// L2 announces by ARP and NDP: one node at a time has an address.
	//
	// +optional
	L2 *L2Announcement `json:"l2,omitempty"`

	// BGP announces a route to the address from every selected node.
	//
	// +optional
	BGP *BGPAnnouncement `json:"bgp,omitempty"`

	// Forwarding is how connections reach pods on other nodes than the one that has
	// the address. With Masquerade that node translates them, and pods see the node
	// instead of the client. With Direct it passes packets on unchanged, and the
	// pod's node answers the client. While a node with endpoints, or the one that has
	// the address, is not able to do that, it is as with Masquerade: their NodeStates
	// say why. Absent: Masquerade. If several
	// Announcements select an address, it is Direct if one of them says so. A
	// Service's annotation fairlead.io/forwarding counts before this. A Service with
	// externalTrafficPolicy Local is never directed.
	//
	// +optional
	Forwarding Forwarding `json:"forwarding,omitempty"`
}

// Forwarding is how connections to an address reach pods on other nodes.
//
// +kubebuilder:validation:Enum=Direct;Masquerade
type Forwarding string

// The ways of forwarding.
const (
	ForwardingDirect     Forwarding = "Direct"
	ForwardingMasquerade Forwarding = "Masquerade"
)

// Failback says whether addresses return to the nodes that are preferred for them.
type Failback string

// The values of Failback.
const (
	FailbackAfterHealth Failback = "AfterHealth"
	FailbackNever       Failback = "Never"
)

// DrainCause is a reason for which a node hands its addresses over.
//
// +kubebuilder:validation:Enum=Deletion;Shutdown;OutOfServiceTaint;Cordon
type DrainCause string

// PreferredNodes adds Weight to every node that Selector matches.
type PreferredNodes struct {
	// Selector matches the labels of nodes. Empty: all.
	//
	// +required
	Selector metav1.LabelSelector `json:"selector"`

	// Weight to add.
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`
}

// L2Announcement announces by ARP and NDP.
type L2Announcement struct {
	// Interfaces restricts the links to those whose names match one of these:
	// a name (eth1) or a shell pattern (bond*, eth[0-3]). Empty: every suitable
	// link.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:Pattern=`^[^\s/]+$`
	Interfaces []string `json:"interfaces,omitempty"`

	// RefreshInterval is how often the owner announces an address again although nothing
	// happened, for devices that miss announcements and never ask: from 10s to 24h. Of several
	// Announcements that select an address, the shortest counts. Absent: never.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') || (duration(self) >= duration('10s') && duration(self) <= duration('24h'))",message="refreshInterval must be from 10s to 24h"
	RefreshInterval *metav1.Duration `json:"refreshInterval,omitempty"`
}

// BGPAnnouncement announces routes to BGPPeers.
type BGPAnnouncement struct {
	// Peers names the BGPPeers to announce to. Empty: all.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	Peers []string `json:"peers,omitempty"`

	// LocalPref is the LOCAL_PREF attribute (RFC 4271 section 5.1.5), sent to
	// peers of the same AS only. Absent: 100.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	LocalPref *int64 `json:"localPref,omitempty"`

	// Communities to attach (RFC 1997), each as two numbers up to 65535, such
	// as 64496:100, or one of no-export, no-advertise, local-as and
	// graceful-shutdown.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	Communities []Community `json:"communities,omitempty"`

	// LargeCommunities to attach (RFC 8092), each as three numbers up to
	// 4294967295, such as 64496:1:2.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	LargeCommunities []LargeCommunity `json:"largeCommunities,omitempty"`

	// AggregationLength is the prefix length that IPv4 addresses are announced
	// with. Default 32: one route an address.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=32
	// +kubebuilder:default=32
	AggregationLength *int32 `json:"aggregationLength,omitempty"`

	// AggregationLengthV6 is the prefix length that IPv6 addresses are announced
	// with. Default 128: one route an address.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=128
	// +kubebuilder:default=128
	AggregationLengthV6 *int32 `json:"aggregationLengthV6,omitempty"`
}

// Community is a BGP community (RFC 1997).
//
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:Pattern=`^([0-9]{1,5}:[0-9]{1,5}|no-export|no-advertise|local-as|graceful-shutdown)$`
// +kubebuilder:validation:XValidation:rule="!self.matches('^[0-9]{1,5}:[0-9]{1,5}$') || self.split(':').all(n, int(n) <= 65535)",message="both numbers of a community must be at most 65535"
type Community string

// LargeCommunity is a BGP large community (RFC 8092).
//
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:Pattern=`^[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$`
// +kubebuilder:validation:XValidation:rule="!self.matches('^[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$') || self.split(':').all(n, int(n) <= 4294967295)",message="the three numbers of a large community must be at most 4294967295"
type LargeCommunity string

// AnnouncementStatus is what the controller last saw.
type AnnouncementStatus struct {
	// ObservedGeneration is the metadata.generation that the rest describes.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Ready is False when something that it names cannot be used,
	// and its reason says what.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// AnnouncementList is a list of Announcements.
//
// +kubebuilder:object:root=true
type AnnouncementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Announcement `json:"items"`
}
