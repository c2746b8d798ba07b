package apitest

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// Short names for kinds.
type (
	Service       = *corev1.Service
	Pool          = *v1alpha1.AddressPool
	Record        = *v1alpha1.Address
	coreNode      = *corev1.Node
	coreNamespace = *corev1.Namespace
	cidr          = *networkingv1.ServiceCIDR
	nodeState     = *v1alpha1.NodeState
	endpointSlice = *discoveryv1.EndpointSlice
)
