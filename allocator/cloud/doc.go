// Package cloud makes the allocator a Kubernetes cloud provider: it implements
// the LoadBalancer interface of k8s.io/cloud-provider over the same Decide as
// fairlead's own controller, for that module's service controller. The service
// controller writes finalizers, addresses in statuses and Events; this package
// writes the Address records when it is asked for a load balancer, and keeps the
// conditions and the pools' counters.
package cloud
