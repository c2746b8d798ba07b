package snapshot

import (
	"net/netip"
	"strings"
	"time"
)

// Ref names a namespaced object.
type Ref struct{ Namespace, Name string }

func (r Ref) String() string { return r.Namespace + "/" + r.Name }

// Compare orders by namespace, then name.
func (r Ref) Compare(o Ref) int {
	if c := strings.Compare(r.Namespace, o.Namespace); c != 0 {
		return c
	}
	return strings.Compare(r.Name, o.Name)
}

// Protocol is an IP protocol number as the kernel writes it.
type Protocol uint8

// The protocols that a Service port can have.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return "unknown"
}

// ServiceType is a Service's spec.type.
type ServiceType string

// The types of Service, spelled as Kubernetes does.
const (
	ClusterIP    ServiceType = "ClusterIP"
	NodePort     ServiceType = "NodePort"
	LoadBalancer ServiceType = "LoadBalancer"
	ExternalName ServiceType = "ExternalName"
)

// Policy is an externalTrafficPolicy or internalTrafficPolicy. The zero value
// is Cluster.
type Policy string

// The traffic policies, spelled as Kubernetes does.
const (
	PolicyCluster Policy = "Cluster"
	PolicyLocal   Policy = "Local"
)

// FamilyPolicy is a Service's ipFamilyPolicy.
type FamilyPolicy string

// The family policies, spelled as Kubernetes does.
const (
	SingleStack      FamilyPolicy = "SingleStack"
	PreferDualStack  FamilyPolicy = "PreferDualStack"
	RequireDualStack FamilyPolicy = "RequireDualStack"
)

// Service is one Service with the endpoints of all its EndpointSlices.
type Service struct {
	Ref
	UID         string
	Created     time.Time
	Labels      map[string]string
	Annotations map[string]string
	Finalizers  []string
	Deleting    bool // has a deletionTimestamp
	Headless    bool

	Type                  ServiceType
	ClusterIPs            []netip.Addr // none for headless and ExternalName
	ExternalIPs           []netip.Addr
	Ports                 []Port // in the order of the spec
	ExternalTrafficPolicy Policy
	InternalTrafficPolicy Policy
	Affinity              time.Duration // sessionAffinity ClientIP's timeout; 0 is None
	SourceRanges          []string      // loadBalancerSourceRanges, as written
	HealthCheckNodePort   uint16
	PublishNotReady       bool

	Class          string     // spec.loadBalancerClass, "" if unset
	LoadBalancerIP string     // spec.loadBalancerIP, as written
	Forwarding     Forwarding // of its annotation; "": what its Announcements say
	Helper         Helper     // of its annotation; "": none
	ResetsRemoved  bool       // its annotation asks for it: see AnnotationRemoved
	KeepsPorts     bool       // its annotation asks for it: see AnnotationSourcePorts
	AllPorts       bool       // its annotation asks for it: see AnnotationAffinity
	Egress         bool       // its annotation asks for it: see Leaves
	Anycast        bool       // other clusters have its addresses too
	FamilyPolicy   FamilyPolicy
	Families       []Family // spec.ipFamilies, in order

	Ingress    []Ingress            // status.loadBalancer.ingress
	Conditions map[string]Condition // status.conditions by type

	Selector  map[string]string
	Endpoints []Endpoint // sorted by port name, address, port
	LeftOut   string     // what of its EndpointSlices is more than one Service may have; "" for nothing
}

// NoRoom is the LeftOut of a Service whose namespace has more endpoints than a node has
// room for: it has none.
const NoRoom = "all endpoints, for which there is no room"

// Port is one port of a Service.
type Port struct {
	Name     string // "" if the only one
	Protocol Protocol
	Port     uint16
	NodePort uint16 // 0 if none
}

// Endpoint is one address and port of a Service's pods (or of whatever an
// EndpointSlice names), with its conditions as Kubernetes defaults them. It is kept small,
// because a large cluster has hundreds of thousands.
type Endpoint struct {
	PortName    string
	Addr        netip.AddrPort
	Node        string // "" if the slice does not say
	Zone        string
	Protocol    Protocol
	Ready       bool
	Serving     bool
	Terminating bool
	*Hints      // nil for most; read by ForZones and ForNodes
}

// Hints are the zones and the nodes that an Endpoint is for.
type Hints struct{ ZoneHints, NodeHints []string }

// ForZones returns the zones of h, nil for none.
func (h *Hints) ForZones() []string {
	if h == nil {
		return nil
	}
	return h.ZoneHints
}

// ForNodes returns the nodes of h, nil for none.
func (h *Hints) ForNodes() []string {
	if h == nil {
		return nil
	}
	return h.NodeHints
}

// Ingress is one entry of status.loadBalancer.ingress.
type Ingress struct {
	IP       netip.Addr // invalid if the entry has none
	Hostname string
	Proxy    bool // ipMode is Proxy
}

// Condition is a status condition without its times.
type Condition struct {
	Status  string // "True", "False" or "Unknown"
	Reason  string
	Message string
}

// Family is an IP family.
type Family uint8

// The two families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf returns the family of addr.
func FamilyOf(addr netip.Addr) Family {
	if addr.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

func (f Family) String() string {
	if f == IPv4 {
		return "IPv4"
	}
	return "IPv6"
}
