// Package doctor finds what is wrong with a cluster, with manifests or with a
// node. Findings are a function of what was read: nothing here reads.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
)

// Code names a kind of finding for good; docs/troubleshooting.md has an entry for
// each. The first two digits are the area.
type Code string

// The codes. 01: fairlead itself. 02: pools and addresses. 03: other software.
// 04: a node. 05: BGP.
const (
	NoLeader        Code = "FL0101"
	NoAgent         Code = "FL0102"
	SilentAgent     Code = "FL0103"
	OutOfSync       Code = "FL0104"
	VersionSkew     Code = "FL0105"
	PodBroken       Code = "FL0106"
	MissingRights   Code = "FL0107"
	NotRead         Code = "FL0108"
	PodSecurity     Code = "FL0109"
	SilentToOthers  Code = "FL0110"
	NoServiceCIDR   Code = "FL0111"
	NoPool          Code = "FL0201"
	PoolInvalid     Code = "FL0202"
	PoolOverlap     Code = "FL0203"
	PoolFull        Code = "FL0204"
	NoAddress       Code = "FL0205"
	NotAsAsked      Code = "FL0206"
	Duplicate       Code = "FL0207"
	TwoAnnouncers   Code = "FL0208"
	NotAnnounced    Code = "FL0209"
	NoEndpoint      Code = "FL0210"
	OutsideNetworks Code = "FL0211"
	BadSources      Code = "FL0212"
	NodePortTrouble Code = "FL0213"
	PoolSkips       Code = "FL0214"
	Refused         Code = "FL0215"
	Misspelt        Code = "FL0216"
	NoPrefix        Code = "FL0217"
	NoLease         Code = "FL0218"
	TwoProxies      Code = "FL0301"
	StrictARP       Code = "FL0302"
	OtherBalancer   Code = "FL0303"
	NotCertain      Code = "FL0304"
	LeftBehind      Code = "FL0305"
	NotForwarding   Code = "FL0306"
	Differs         Code = "FL0307"
	KernelSetting   Code = "FL0401"
	ReversePath     Code = "FL0402"
	Bridged         Code = "FL0403"
	Redirects       Code = "FL0404"
	StrictTracking  Code = "FL0405"
	RouterAdvert    Code = "FL0406"
	NoNFTables      Code = "FL0407"
	NoPacketSocket  Code = "FL0408"
	PortTaken       Code = "FL0409"
	PortBlocked     Code = "FL0410"
	MTUDiffers      Code = "FL0411"
	TrackingFull    Code = "FL0412"
	ForwardDropped  Code = "FL0413"
	PodNotKnown     Code = "FL0414"
	NotDirect       Code = "FL0415"
	NoRouter        Code = "FL0418"
	PeerDown        Code = "FL0501"
)

// Severity is how bad a finding is.
type Severity string

// The severities. A Problem keeps somebody from being served, now or after the
// next fault; a Warning may.
const (
	Problem Severity = "problem"
	Warning Severity = "warning"
)

// Entry is what all findings of one code have in common.
type Entry struct {
	Code     Code
	Severity Severity
	Title    string
}

// Catalog lists every code, in order.
var Catalog = []Entry{
	{NoLeader, Problem, "No controller leads"},
	{NoAgent, Problem, "A node has no agent"},
	{SilentAgent, Problem, "An agent is not heard of"},
	{OutOfSync, Problem, "A node's engine is not in sync"},
	{VersionSkew, Warning, "Different versions run"},
	{PodBroken, Problem, "A pod of fairlead does not run"},
	{MissingRights, Problem, "fairlead lacks a permission"},
	{NotRead, Warning, "Something could not be read"},
	{PodSecurity, Problem, "The namespace does not admit the agents"},
	{SilentToOthers, Problem, "Agents do not hear each other"},
	{NoServiceCIDR, Warning, "The range of ClusterIPs is not known"},
	{NoPool, Problem, "There is no AddressPool"},
	{PoolInvalid, Problem, "A pool's addresses cannot be read"},
	{PoolOverlap, Problem, "A pool overlaps something else"},
	{PoolFull, Warning, "A pool is nearly or wholly full"},
	{NoAddress, Problem, "A Service gets no address"},
	{NotAsAsked, Warning, "A Service keeps an address, but not as it should be"},
	{Duplicate, Problem, "A foreign host answers for an address"},
	{TwoAnnouncers, Problem, "Two nodes announce one address"},
	{NotAnnounced, Problem, "Nobody announces an address"},
	{NoEndpoint, Problem, "A Service has no ready endpoint"},
	{OutsideNetworks, Warning, "No node is in a pool's network"},
	{BadSources, Problem, "loadBalancerSourceRanges cannot be read"},
	{NodePortTrouble, Problem, "A node could not do something for a Service"},
	{PoolSkips, Warning, "A pool contains addresses of nodes"},
	{Refused, Problem, "The API server refuses a manifest"},
	{Misspelt, Warning, "An annotation is misspelt"},
	{NoPrefix, Warning, "Nodes do not agree on a pool's prefix"},
	{NoLease, Warning, "A pool lacks leases of its DHCP server"},
	{TwoProxies, Problem, "Two proxies forward Services"},
	{StrictARP, Problem, "kube-proxy answers ARP for every address"},
	{OtherBalancer, Problem, "Another load balancer serves the same Services"},
	{NotCertain, Problem, "It is not certain who forwards Services"},
	{LeftBehind, Warning, "Another proxy left its rules"},
	{NotForwarding, Problem, "fairlead is to forward, and another proxy does"},
	{Differs, Warning, "A change-over makes a difference"},
	{KernelSetting, Problem, "A kernel setting is wrong"},
	{ReversePath, Warning, "Strict reverse path filter"},
	{Bridged, Problem, "Bridged packets pass by the address translation"},
	{Redirects, Warning, "The node sends redirects"},
	{StrictTracking, Warning, "Connection tracking is strict"},
	{RouterAdvert, Problem, "Forwarding makes the node forget its IPv6 routes"},
	{NoNFTables, Problem, "The kernel's nftables cannot be used"},
	{NoPacketSocket, Problem, "Packet sockets are not permitted"},
	{PortTaken, Problem, "A port that fairlead needs is taken"},
	{PortBlocked, Problem, "A port between the nodes is blocked"},
	{MTUDiffers, Warning, "Links of one network have different MTUs"},
	{TrackingFull, Warning, "Connection tracking is nearly full"},
	{ForwardDropped, Warning, "Another packet filter drops forwarded packets"},
	{PodNotKnown, Warning, "A node does not know pods as its own"},
	{NotDirect, Warning, "A node does not forward directly"},
	{NoRouter, Warning, "A node knows no router on a link"},
	{PeerDown, Problem, "A BGP peer has no session"},
}

// entry returns c's Entry.
func (c Code) entry() Entry {
	i := slices.IndexFunc(Catalog, func(e Entry) bool { return e.Code == c })
	return Catalog[i]
}

// Object names what a finding is about.
type Object struct {
	Resource  string `json:"resource,omitempty"` // as kubectl takes it: node, service, addresspool.fairlead.io
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
}

func (o Object) String() string {
	switch {
	case o.Name == "":
		return ""
	case o.Namespace == "":
		return o.Resource + "/" + o.Name
	}
	return o.Resource + "/" + o.Name + " -n " + o.Namespace
}

// Finding is one thing that is wrong, and the next step.
type Finding struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	Title    string   `json:"title"`
	Object   Object   `json:"object,omitzero"`
	Message  string   `json:"message"`
	Next     string   `json:"next"`
}

func find(c Code, about Object, next, format string, args ...any) Finding {
	e := c.entry()
	return Finding{Code: c, Severity: e.Severity, Title: e.Title, Object: about, Next: next, Message: fmt.Sprintf(format, args...)}
}

// sorted puts findings into the order in which they are told: by code, then
// object.
func sorted(fs []Finding) []Finding {
	slices.SortStableFunc(fs, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Object.Namespace, b.Object.Namespace), cmp.Compare(a.Object.Name, b.Object.Name))
	})
	return fs
}

// In leaves out findings about Services of other namespaces; namespace "" is all.
// Findings about the cluster stay, because they may be the cause.
func In(fs []Finding, namespace string) []Finding {
	return slices.DeleteFunc(slices.Clone(fs), func(f Finding) bool {
		return namespace != "" && f.Object.Resource == "service" && f.Object.Namespace != namespace
	})
}

// Bad reports whether one of fs is a Problem.
func Bad(fs []Finding) bool {
	return slices.ContainsFunc(fs, func(f Finding) bool { return f.Severity == Problem })
}
