package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// AddressFinding is what a node learnt of one address on the network.
type AddressFinding struct {
	// Address that was asked for.
	//
	// +required
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=39
	Address string `json:"address"`

	// UID of the Address object for which it was found: of another assignment it
	// says nothing.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	UID types.UID `json:"uid,omitempty"`

	// ProbedAt is when the node last asked whether a host has the address. Absent:
	// it did not.
	//
	// +optional
	ProbedAt *metav1.Time `json:"probedAt,omitempty"`

	// Conflict is the MAC address of a foreign host that answered; the address is
	// not announced.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Conflict string `json:"conflict,omitempty"`

	// Claimant is the MAC address of a foreign host that goes on claiming the
	// address while the node announces it, after the node has defended it.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Claimant string `json:"claimant,omitempty"`
}
