package nodeport

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// ToBeDeleted is the taint of a node that the cluster autoscaler is about to
// take away: load balancers are to leave it.
const ToBeDeleted = "ToBeDeletedByClusterAutoscaler"

// Check is a healthCheckNodePort that this node answers, on its addresses of one family.
type Check struct {
	Service snapshot.Ref
	Family  snapshot.Family
	Port    uint16
	Local   int // distinct addresses with a ready endpoint on this node, of this family if the Service has it
}

// checks returns the health checks of svc, which may be nil, on the node called node:
// one for each family of a node's addresses, if svc is of type LoadBalancer with
// externalTrafficPolicy Local. Endpoints that terminate do not count, though they are
// still sent traffic: that is what makes an outside load balancer leave in time.
func checks(svc *snapshot.Service, node string) []Check {
	if svc == nil || svc.HealthCheckNodePort == 0 || svc.Type != snapshot.LoadBalancer || svc.ExternalTrafficPolicy != snapshot.PolicyLocal || !svc.Served() {
		return nil
	}
	var out []Check
	for _, family := range []snapshot.Family{snapshot.IPv4, snapshot.IPv6} {
		if counted, ok := countedFor(svc, family); ok {
			out = append(out, Check{Service: svc.Ref, Family: family, Port: svc.HealthCheckNodePort, Local: local(svc, counted, node)})
		}
	}
	return out
}

// countedFor is the family of the endpoints that a check on addresses of family counts.
// A Service with one family is checked on a node's addresses of both: the load balancer
// may know the node by either, and Kubernetes' own test asks each. It is false for a
// Service without ClusterIPs.
func countedFor(svc *snapshot.Service, family snapshot.Family) (snapshot.Family, bool) {
	if len(svc.ClusterIPs) == 0 {
		return family, false
	}
	if slices.ContainsFunc(svc.ClusterIPs, func(ip netip.Addr) bool { return snapshot.FamilyOf(ip) == family }) {
		return family, true
	}
	// Kubernetes' own test of externalTrafficPolicy Local asks every InternalIP of a node, and failed.
	return snapshot.FamilyOf(svc.ClusterIPs[0]), true
}

func compareChecks(a, b Check) int {
	return cmp.Or(a.Service.Compare(b.Service), cmp.Compare(a.Family, b.Family))
}

// local counts the endpoints that take the connections that reach node: those there, or
// those that are on no node. It counts addresses and not ports: a pod with two ports is one
// endpoint.
func local(svc *snapshot.Service, family snapshot.Family, node string) int {
	here, nowhere := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, ep := range svc.Endpoints {
		ip := ep.Addr.Addr()
		switch {
		// The engine sends nothing to an endpoint at such an address.
		case !ep.Ready || snapshot.FamilyOf(ip) != family || unfit(ip):
		case ep.Node == "":
			nowhere[ip] = true
		case ep.Node == node:
			here[ip] = true
		}
	}
	if len(here) == 0 {
		return len(nowhere)
	}
	return len(here)
}

// Eligible reports whether load balancers may send to node, as /healthz says it:
// not when it is gone, being deleted or about to be taken away. Other taints and
// conditions do not count.
func Eligible(node *snapshot.Node) bool {
	return node != nil && !node.Deleting && !slices.Contains(node.Taints, ToBeDeleted)
}

// Listener is a socket that answers a Check.
type Listener struct {
	Service snapshot.Ref
	Addr    netip.AddrPort // of the unspecified address: every address of its family
	Local   int
}

// Listeners returns the sockets that answer checks, sorted like them: on the
// addresses on which node ports answer (addrs, as Resolve returned them), or on
// every address of a family whose cidrs match them all. A family for which the node has
// no such address has no socket.
func Listeners(checks []Check, addrs []netip.Addr, cidrs []netip.Prefix) []Listener {
	var out []Listener
	for _, c := range checks {
		for _, a := range listenOn(c.Family, addrs, cidrs) {
			out = append(out, Listener{Service: c.Service, Addr: netip.AddrPortFrom(a, c.Port), Local: c.Local})
		}
	}
	return out
}

func listenOn(family snapshot.Family, addrs []netip.Addr, cidrs []netip.Prefix) []netip.Addr {
	all := netip.IPv6Unspecified()
	if family == snapshot.IPv4 {
		all = netip.IPv4Unspecified()
	}
	own := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return snapshot.FamilyOf(a) != family })
	if len(own) > 0 && slices.Contains(cidrs, netip.PrefixFrom(all, 0)) {
		return []netip.Addr{all}
	}
	return own
}
