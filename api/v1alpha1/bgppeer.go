package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPPeer is a router that the selected nodes hold a BGP session with.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=bgppeer,categories=fairlead
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.address`
// +kubebuilder:printcolumn:name="Peer-ASN",type=integer,JSONPath=`.spec.peerASN`
// +kubebuilder:printcolumn:name="Local-ASN",type=integer,JSONPath=`.spec.localASN`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec BGPPeerSpec `json:"spec"`
	// +optional
	Status BGPPeerStatus `json:"status,omitzero"`
}

// BGPPeerSpec describes the router and the session.
//
// +kubebuilder:validation:XValidation:rule="[has(self.address), has(self.interface), has(self.defaultGateway) && self.defaultGateway].filter(x, x).size() == 1",message="one of address, interface and defaultGateway says where the router is"
// +kubebuilder:validation:XValidation:rule="!has(self.ebgpMultihop) || !has(self.peerASN) || self.peerASN != self.localASN",message="ebgpMultihop needs a peer in another AS"
// +kubebuilder:validation:XValidation:rule="!has(self.keepaliveTime) || !has(self.holdTime) || duration(self.holdTime) == duration('0s') || duration(self.keepaliveTime) < duration(self.holdTime)",message="keepaliveTime must be shorter than holdTime"
// +kubebuilder:validation:XValidation:rule="!has(self.ebgpMultihop) || !has(self.ttlSecurity)",message="ebgpMultihop and ttlSecurity exclude each other"
type BGPPeerSpec struct {
	// Address of the router, IPv4 or IPv6. A link-local one has the link's name as its
	// zone: fe80::254%eth0.
	//
	// +optional
	Address RouterAddress `json:"address,omitempty"`

	// Interface is the link that the router is alone on, with its link-local address
	// ("BGP unnumbered"). The router and the agents send router advertisements there.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:Pattern=`^[^/:%\s]+$`
	Interface string `json:"interface,omitempty"`

	// DefaultGateway takes each node's own default gateway for the router, the one for
	// IPv4 if a node has two.
	//
	// +optional
	DefaultGateway bool `json:"defaultGateway,omitempty"`

	// Port of the router or, with passive, that the nodes listen on. Default 179.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:default=179
	Port int32 `json:"port,omitempty"`

	// PeerASN is the router's AS number, 1 to 4294967295 (RFC 6793). Absent: any but
	// localASN.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	PeerASN int64 `json:"peerASN,omitempty"`

	// LocalASN is the nodes' AS number, 1 to 4294967295. The same as peerASN
	// makes the session iBGP.
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	LocalASN int64 `json:"localASN"`

	// NodeSelector selects the nodes that hold the session, by their labels.
	// Absent or empty: all.
	//
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`

	// HoldTime after which a silent peer is given up: at least 3s (RFC 4271
	// section 4.2), or 0s for what the router wants. Default 90s.
	//
	// +optional
	// +kubebuilder:default="90s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') || duration(self) == duration('0s') || (duration(self) >= duration('3s') && duration(self) <= duration('65535s'))",message="holdTime must be 0s, or from 3s to 65535s"
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`

	// KeepaliveTime between keepalives. Absent: a third of the hold time.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	KeepaliveTime *metav1.Duration `json:"keepaliveTime,omitempty"`

	// ConnectTime between attempts to connect. Default 10s.
	//
	// +optional
	// +kubebuilder:default="10s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	ConnectTime *metav1.Duration `json:"connectTime,omitempty"`

	// PasswordSecretRef names the Secret in fairlead's own namespace that holds
	// the session's TCP MD5 password (RFC 2385). Absent: none.
	//
	// +optional
	PasswordSecretRef *SecretKeyRef `json:"passwordSecretRef,omitempty"`

	// SourceAddress that the nodes connect from or, with passive, that the router
	// must connect to. Absent: the kernel chooses, or any.
	//
	// +optional
	SourceAddress IPAddress `json:"sourceAddress,omitempty"`

	// Passive waits for the router to connect. Default: the nodes connect.
	//
	// +optional
	Passive bool `json:"passive,omitempty"`

	// EBGPMultihop is the TTL of packets to a router of another AS that is not
	// on a link of the node. Absent: the router must be on one.
	//
	// +optional
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=255
	EBGPMultihop *int32 `json:"ebgpMultihop,omitempty"`

	// TTLSecurity is how many hops away the router may be, 1 on a link of the
	// node: packets from farther away are not taken (RFC 5082). The router has to
	// be told the same. Absent: off.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=254
	TTLSecurity *int32 `json:"ttlSecurity,omitempty"`

	// GracefulRestart keeps routes while an agent restarts (RFC 4724). Absent:
	// off.
	//
	// +optional
	GracefulRestart *GracefulRestart `json:"gracefulRestart,omitempty"`

	// BFD finds a dead path in well under a second (RFC 5880, RFC 5881). Absent:
	// off.
	//
	// +optional
	BFD *BFD `json:"bfd,omitempty"`
}

// RouterAddress is an IPv4 or IPv6 address. A link-local one has a zone.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=55
// +kubebuilder:validation:Pattern=`^[0-9A-Fa-f.:]+(%[^/:%\s]{1,15})?$`
// +kubebuilder:validation:XValidation:rule="self.contains(':') ? self.split('%')[0].matches('^(([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|([0-9A-Fa-f]{1,4}:){1,7}:|([0-9A-Fa-f]{1,4}:){1,6}:[0-9A-Fa-f]{1,4}|([0-9A-Fa-f]{1,4}:){1,5}(:[0-9A-Fa-f]{1,4}){1,2}|([0-9A-Fa-f]{1,4}:){1,4}(:[0-9A-Fa-f]{1,4}){1,3}|([0-9A-Fa-f]{1,4}:){1,3}(:[0-9A-Fa-f]{1,4}){1,4}|([0-9A-Fa-f]{1,4}:){1,2}(:[0-9A-Fa-f]{1,4}){1,5}|([0-9A-Fa-f]{1,4}:){1,1}(:[0-9A-Fa-f]{1,4}){1,6}|:((:[0-9A-Fa-f]{1,4}){1,7}|:))$') : self.matches('^(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])([.](25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3}$')",message="not an IPv4 or IPv6 address"
// +kubebuilder:validation:XValidation:rule="self.contains('%') == self.matches('^[Ff][Ee][89ABab][0-9A-Fa-f]:')",message="a link-local address, and no other, needs the name of its link: fe80::254%eth0"
type RouterAddress string

// IPAddress is an IPv4 or IPv6 address without a zone.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=39
// +kubebuilder:validation:Pattern=`^[0-9A-Fa-f.:]+$`
// +kubebuilder:validation:XValidation:rule="self.contains(':') ? self.matches('^(([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|([0-9A-Fa-f]{1,4}:){1,7}:|([0-9A-Fa-f]{1,4}:){1,6}:[0-9A-Fa-f]{1,4}|([0-9A-Fa-f]{1,4}:){1,5}(:[0-9A-Fa-f]{1,4}){1,2}|([0-9A-Fa-f]{1,4}:){1,4}(:[0-9A-Fa-f]{1,4}){1,3}|([0-9A-Fa-f]{1,4}:){1,3}(:[0-9A-Fa-f]{1,4}){1,4}|([0-9A-Fa-f]{1,4}:){1,2}(:[0-9A-Fa-f]{1,4}){1,5}|([0-9A-Fa-f]{1,4}:){1,1}(:[0-9A-Fa-f]{1,4}){1,6}|:((:[0-9A-Fa-f]{1,4}){1,7}|:))$') : self.matches('^(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])([.](25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3}$')",message="not an IPv4 or IPv6 address"
type IPAddress string

// SecretKeyRef names one key of a Secret in fairlead's own namespace.
type SecretKeyRef struct {
	// Name of the Secret.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Key in its data. Default password.
	//
	// +optional
	// +kubebuilder:default=password
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
}

// GracefulRestart configures RFC 4724.
type GracefulRestart struct {
	// RestartTime is how long the router keeps the routes of a node whose
	// session is gone, at most 4095s. Default 120s.
	//
	// +optional
	// +kubebuilder:default="120s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') || (duration(self) >= duration('1s') && duration(self) <= duration('4095s'))",message="restartTime must be from 1s to 4095s"
	RestartTime *metav1.Duration `json:"restartTime,omitempty"`
}

// BFD configures single-hop or multihop BFD next to a BGP session.
type BFD struct {
	// ReceiveInterval is the shortest interval between packets that the node
	// accepts. Default 300ms.
	//
	// +optional
	// +kubebuilder:default="300ms"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') || (duration(self) >= duration('10ms') && duration(self) <= duration('60s'))",message="receiveInterval must be from 10ms to 60s"
	ReceiveInterval *metav1.Duration `json:"receiveInterval,omitempty"`

	// TransmitInterval is the shortest interval between packets that the node
	// sends. Default 300ms.
	//
	// +optional
	// +kubebuilder:default="300ms"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') || (duration(self) >= duration('10ms') && duration(self) <= duration('60s'))",message="transmitInterval must be from 10ms to 60s"
	TransmitInterval *metav1.Duration `json:"transmitInterval,omitempty"`

	// DetectMultiplier is how many packets may be lost before the path is down.
	// Default 3.
	//
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=255
	DetectMultiplier int32 `json:"detectMultiplier,omitempty"`

	// Passive waits for the router to speak first. Default false.
	//
	// +optional
	Passive bool `json:"passive,omitempty"`
}

// BGPPeerStatus is what the controller last saw. The state of each node's
// session is in its NodeState.
type BGPPeerStatus struct {
	// ObservedGeneration is the metadata.generation that the rest describes.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Ready is True when every node that should have a session with
	// the router has one. Its reason is Established, NotEstablished, NoNode, or
	// Refused when the peer cannot be used as written.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BGPPeerList is a list of BGPPeers.
//
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []BGPPeer `json:"items"`
}
