package apitest

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// Short names for kinds.
type (
	Service       = *corev1.Service
	coreNode      = *corev1.Node
	coreNamespace = *corev1.Namespace
	cidr          = *networkingv1.ServiceCIDR
)
