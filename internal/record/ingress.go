package record

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/allocator"
)

// Ingress returns what a Service's status should name: the outcome's addresses and nothing
// else. An entry that stays keeps the statuses of its ports.
func Ingress(o allocator.Outcome, old *corev1.Service) []corev1.LoadBalancerIngress {
	mode := corev1.LoadBalancerIPModeVIP
	var out []corev1.LoadBalancerIngress
	for _, a := range o.Addrs {
		entry := corev1.LoadBalancerIngress{IP: a.String(), IPMode: &mode}
		for _, was := range old.Status.LoadBalancer.Ingress {
			if was.IP != entry.IP {
				continue
			}
			entry.Ports = was.Ports
			if was.IPMode == nil {
				// An API server before 1.30 drops the mode, and later ones fill it in: to
				// ask for it would be a write at every look.
				entry.IPMode = nil
			}
		}
		out = append(out, entry)
	}
	return out
}

// Names reports whether svc's status names addr.
func Names(svc *corev1.Service, addr netip.Addr) bool {
	return slices.ContainsFunc(svc.Status.LoadBalancer.Ingress, func(in corev1.LoadBalancerIngress) bool { return in.IP == addr.String() })
}
