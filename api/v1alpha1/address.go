package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Address is the record that Services hold an address. The controller makes it
// before it writes the address to a Service's status and deletes it when the
// last holder is gone. Its name is the address itself (see AddressName), so the
// API server's unique names are the lock: no two writers can hand out one
// address twice. People read it; only fairlead writes it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=addresses,shortName=addr,categories=fairlead
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.address`
// +kubebuilder:printcolumn:name="Pool",type=string,JSONPath=`.spec.pool`
// +kubebuilder:printcolumn:name="Namespace",type=string,JSONPath=`.spec.holders[0].namespace`
// +kubebuilder:printcolumn:name="Holder",type=string,JSONPath=`.spec.holders[0].name`
// +kubebuilder:printcolumn:name="Share-Key",type=string,JSONPath=`.spec.shareKey`
// +kubebuilder:printcolumn:name="Conflict",type=string,JSONPath=`.status.conflict`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.spec.address.contains(':') ? self.metadata.name.matches('^[0-9a-f]{4}(-[0-9a-f]{4}){7}$') : self.metadata.name == self.spec.address",message="the name must be the address: IPv4 as it is, IPv6 in full with dashes for colons"
type Address struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec AddressSpec `json:"spec"`
	// +optional
	Status AddressStatus `json:"status,omitzero"`
}

// AddressSpec says who holds the address.
type AddressSpec struct {
	// Address in its canonical text form (RFC 5952 for IPv6). It never changes.
	//
	// +required
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=39
	// +kubebuilder:validation:Pattern=`^[0-9a-f.:]+$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="an Address never changes its address; make another one"
	Address string `json:"address"`

	// Pool is the name of the AddressPool that the address was given from. The
	// pool may be gone since.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Pool string `json:"pool"`

	// Lease is the client of the pool's DHCP lease by which the pool has the address;
	// empty if it has it by none. The holders lose the address when that lease ends, also
	// if the pool is gone.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Lease string `json:"lease,omitempty"`

	// Node is the name of the node whose own address this is; empty for an address of
	// a pool's ranges. Nobody announces it, and the holders share it by port.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node,omitempty"`

	// ShareKey is the share key of all holders; without one there is a single
	// holder.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	ShareKey string `json:"shareKey,omitempty"`

	// Backend says what all holders have in common beside the key: the selector
	// of Services with externalTrafficPolicy Local. Empty: nothing.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=16384
	Backend string `json:"backend,omitempty"`

	// Holders lists the Services that have this address, sorted by namespace
	// and name.
	//
	// +optional
	// +listType=map
	// +listMapKey=uid
	// +kubebuilder:validation:MaxItems=1024
	Holders []AddressHolder `json:"holders,omitempty"`

	// Freed says who held the address last, while nobody does and the pool's
	// coolDown is not over.
	//
	// +optional
	Freed *FreedAddress `json:"freed,omitempty"`
}

// FreedAddress says since when an address is free, and in which namespace its last
// holder was.
type FreedAddress struct {
	// Namespace of the last holder.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`

	// At is when the last holder lost the address.
	//
	// +required
	At metav1.Time `json:"at"`
}

// AddressHolder is one Service that holds an address.
type AddressHolder struct {
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

	// UID of the Service: another Service of the same name is not the holder.
	//
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	UID types.UID `json:"uid"`

	// Pool from which the Service has the address, if it is a node's own: several
	// pools may give the addresses of one node.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Pool string `json:"pool,omitempty"`

	// Ports that the Service occupies on the address. Two holders never have
	// one in common.
	//
	// +optional
	// +listType=map
	// +listMapKey=protocol
	// +listMapKey=port
	// +kubebuilder:validation:MaxItems=4096
	Ports []HeldPort `json:"ports,omitempty"`

	// Ranges of ports that the Service has beside Ports, as its annotation
	// fairlead.io/ports asks. They count while it is the only holder.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Ranges []HeldRange `json:"ranges,omitempty"`
}

// HeldRange is the ports of one protocol from First to Last.
type HeldRange struct {
	// Protocol as Kubernetes writes it.
	//
	// +required
	// +kubebuilder:validation:Enum=TCP;UDP;SCTP
	Protocol corev1.Protocol `json:"protocol"`

	// First port.
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	First int32 `json:"first"`

	// Last port.
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Last int32 `json:"last"`
}

// HeldPort is a protocol and port that a holder occupies.
type HeldPort struct {
	// Protocol as Kubernetes writes it.
	//
	// +required
	// +kubebuilder:validation:Enum=TCP;UDP;SCTP
	Protocol corev1.Protocol `json:"protocol"`

	// Port of the Service, not of its pods.
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
}

// AddressStatus is what is known of the address on the network.
type AddressStatus struct {
	// ProbedAt is when the address was last probed for a host that already has
	// it, once per assignment. Absent: not probed yet.
	//
	// +optional
	ProbedAt *metav1.Time `json:"probedAt,omitempty"`

	// Conflict is the MAC address of a host that is none of ours and answers
	// for the address. Empty: none seen.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Conflict string `json:"conflict,omitempty"`

	// Conditions: Conflicting is True while a foreign host has the address.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// AddressList is a list of Addresses.
//
// +kubebuilder:object:root=true
type AddressList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Address `json:"items"`
}
