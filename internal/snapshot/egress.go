package snapshot

import "net/netip"

// AnnotationEgress is a Service's annotation. With "true", connections that its pods open
// to destinations outside of the cluster have the Service's address for their source.
const AnnotationEgress = "fairlead.io/egress"

// Leaves reports whether the connections of svc's pods leave with svc's addresses.
func (svc *Service) Leaves() bool { return svc.Egress && svc.Type == LoadBalancer && !svc.Deleting }

// EgressVIP returns the address of a family with which the connections of svc's pods
// leave: the first of its status that a record of a pool's address gives it. It returns
// false if svc has none.
func (s *Snapshot) EgressVIP(svc *Service, family Family) (netip.Addr, bool) {
	for _, in := range svc.Ingress {
		if !in.IP.IsValid() || FamilyOf(in.IP) != family {
			continue
		}
		if a := s.Address(in.IP); a != nil && a.Node == "" && !a.Deleting && a.Held(svc.Ref, svc.UID) {
			return in.IP, true
		}
	}
	return netip.Addr{}, false
}
