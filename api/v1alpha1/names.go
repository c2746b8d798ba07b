package v1alpha1

import (
	"fmt"
	"net/netip"
	"strings"
)

// LoadBalancerClass is the spec.loadBalancerClass of Services that are always
// fairlead's.
const LoadBalancerClass = "fairlead.io/lb"

// Annotations on a Service.
const (
	// AnnotationAddresses asks for these addresses, comma-separated: at least one of
	// each family, and at most eight. "192.0.2.10" or "192.0.2.10,2001:db8::10".
	AnnotationAddresses = "fairlead.io/addresses"
	// AnnotationPool asks for addresses of the AddressPool of this name, or for one of
	// each family of each of several pools, comma-separated.
	AnnotationPool = "fairlead.io/pool"
	// AnnotationPorts asks for ranges of ports, which a Service has on addresses that
	// it does not share: "10000-20000/udp", "all/tcp" or "all", comma-separated.
	AnnotationPorts = "fairlead.io/ports"
	// AnnotationShareKey lets Services with the same key hold one address,
	// as long as their ports differ.
	AnnotationShareKey = "fairlead.io/share-key"
	// AnnotationShareNamespaces lists the other namespaces, comma-separated,
	// whose Services may share this one's address. Both sides must list each
	// other.
	AnnotationShareNamespaces = "fairlead.io/share-namespaces"
	// AnnotationForwarding is how connections reach pods on other nodes: Direct or
	// Masquerade. It counts before what Announcements say.
	AnnotationForwarding = "fairlead.io/forwarding"
	// AnnotationRemoved is what happens to the open connections to an endpoint that the
	// Service no longer has: Keep, the default, or Reset.
	AnnotationRemoved = "fairlead.io/removed-endpoints"
	// AnnotationAffinity is for what a client stays with one pod: Port, the default, or
	// AllPorts of the Service.
	AnnotationAffinity = "fairlead.io/affinity"
	// AnnotationSourcePorts is which source port a masqueraded connection has: Random, the
	// default, or Keep for the client's if it is free.
	AnnotationSourcePorts = "fairlead.io/source-ports"
	// AnnotationHelper gives the Service's connections a helper of the kernel's connection
	// tracking: tftp or ftp.
	AnnotationHelper = "fairlead.io/helper"
	// AnnotationEgress, "true", has the connections of the Service's pods leave the
	// cluster with the Service's address.
	AnnotationEgress = "fairlead.io/egress"
	// AnnotationAnycast, "true", says that other clusters announce the Service's addresses
	// too: without usable endpoints, packets to it are routed on instead of refused.
	AnnotationAnycast = "fairlead.io/anycast"
)

// AnnotationRebalance, on an Announcement whose failback is Never, has addresses that
// stayed spread again when its value changes. "fairlead rebalance" writes the time.
const AnnotationRebalance = "fairlead.io/rebalance"

// MetalLB's annotations, read as synonyms when fairlead's own is absent.
const (
	AnnotationMetalLBAddresses = "metallb.io/loadBalancerIPs"
	AnnotationMetalLBPool      = "metallb.io/address-pool"
	AnnotationMetalLBShareKey  = "metallb.io/allow-shared-ip"
)

// Condition types in a Service's status.
const (
	// ConditionAddressAssigned reports whether the Service holds the addresses
	// that it asks for.
	ConditionAddressAssigned = "fairlead.io/AddressAssigned"
	// ConditionAnnounced reports whether some node announces them.
	ConditionAnnounced = "fairlead.io/Announced"
	// ConditionNodePorts is False while some node has a problem with the
	// Service's node ports or health check port; else the Service has none.
	ConditionNodePorts = "fairlead.io/NodePorts"
)

// Condition types in the status of this package's kinds.
const (
	// ConditionReady reports whether the object has the effect that it describes.
	ConditionReady = "Ready"
	// ConditionConflicting tells, on an AddressPool, that an older pool or the
	// cluster itself already has some of its addresses, so that it gives none;
	// on an Address, that a foreign host answers for it.
	ConditionConflicting = "Conflicting"
	// ConditionPrefix reports, on an AddressPool with fromPrefix, whether the nodes agree
	// on the prefix that the pool gives addresses of.
	ConditionPrefix = "Prefix"
	// ConditionLeases reports, on an AddressPool with fromDHCP, whether it has every lease
	// that its Services want.
	ConditionLeases = "Leases"
	// ConditionSysctls tells, on a NodeState, whether the node's kernel settings
	// are those that forwarding and announcing need.
	ConditionSysctls = "Sysctls"
	// ConditionServiceProxy reports, on a NodeState, whether one program alone forwards
	// Services on the node. The message names it, and what it was known by. It is Unknown
	// if that is not certain.
	ConditionServiceProxy = "ServiceProxy"

	// ConditionRouters tells, on a NodeState of a node with several networks, whether
	// the agent knows a router on each of them. Answers leave by it.
	ConditionRouters = "Routers"
	// ConditionMembers tells, on a NodeState, whether the node's agent can trust
	// what it hears of the others; False with the reason Guarded when more than
	// half of them vanished at once.
	ConditionMembers = "Members"
)

// Finalizers on a Service that holds an address, of version 0.1 and, the first of
// them, of fairlead-ccm. The controller takes them away.
const (
	// FinalizerClassless is Kubernetes' own, for Services without
	// spec.loadBalancerClass.
	FinalizerClassless = "service.kubernetes.io/load-balancer-cleanup"
	// FinalizerClassed is for Services with one: other controllers strip
	// Kubernetes' own from a Service whose class they do not know.
	FinalizerClassed = "fairlead.io/load-balancer-cleanup"
)

// AddressName returns the metadata.name of the Address object of addr: IPv4 as
// it is (192.0.2.1), IPv6 in full with dashes for colons
// (2001-0db8-0000-0000-0000-0000-0000-0001). An IPv4-mapped address is named as
// IPv4 and a zone is ignored, so that one address never has two names. The name
// of the zero Addr is "".
func AddressName(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	switch {
	case !addr.IsValid():
		return ""
	case addr.Is4():
		return addr.String()
	}
	return strings.ReplaceAll(addr.StringExpanded(), ":", "-")
}

// ParseAddressName is the inverse of AddressName. Only names that AddressName
// returns are accepted.
func ParseAddressName(name string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(strings.ReplaceAll(name, "-", ":"))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("address name %q: %w", name, err)
	}
	if AddressName(addr) != name {
		return netip.Addr{}, fmt.Errorf("address name %q: want %q", name, AddressName(addr))
	}
	return addr, nil
}
