// Package v1alpha1 holds fairlead's Kubernetes kinds (group fairlead.io):
// what a cluster's owner writes (AddressPool, Announcement, BGPPeer), the
// record of who holds an address (Address) and what each node says of itself
// (NodeState). All are cluster-scoped. What a pattern or a CEL rule that
// Kubernetes 1.29 knows can refuse, the API server refuses; everything else
// becomes a condition, so that no webhook stands in the way of a Service.
//
// +kubebuilder:object:generate=true
// +groupName=fairlead.io
package v1alpha1

//go:generate ../../internal/tools/generate.sh
