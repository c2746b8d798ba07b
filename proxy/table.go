// Package proxy decides what one node's forwarding engine holds: Compile turns
// a snapshot and the node's frontend addresses into a Table, a sorted value
// that a Dataplane then makes true in the kernel. Nothing here acts.
package proxy

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Kind is what sort of address a Frontend is reached at.
type Kind uint8

// The kinds of Frontend, in the order in which a Table lists them.
const (
	ClusterIP  Kind = iota // a Service's cluster IP
	VIP                    // an address of ours that a record gives to the Service
	ExternalIP             // an address that has other ports too: the node's own, another provider's from the status, or of spec.externalIPs
	NodePort               // a port on every address in Table.NodePortAddrs
	Guard                  // a port of a VIP that another proxy forwards: it is left alone, and all others of the VIP are refused
)

func (k Kind) String() string {
	return [...]string{"clusterip", "vip", "externalip", "nodeport", "guard"}[k]
}

// Key says which packets belong to a Frontend. No two Frontends of a Table
// have the same Family, Addr, Protocol and Port.
type Key struct {
	Kind     Kind
	Family   snapshot.Family
	Protocol snapshot.Protocol
	Port     uint16     // 0: see Ranged
	Addr     netip.Addr // the zero Addr for NodePort
}

// Ranged reports whether the Frontend has ranges of ports instead of one port. Only a VIP
// does.
func (k Key) Ranged() bool { return k.Port == 0 }

func (k Key) String() string {
	switch {
	case k.Kind == NodePort:
		return fmt.Sprintf("%s %s %s/%d", k.Kind, k.Family, k.Protocol, k.Port)
	case k.Ranged():
		return fmt.Sprintf("%s %s %s/*", k.Kind, k.Addr, k.Protocol)
	}
	return fmt.Sprintf("%s %s %s/%d", k.Kind, k.Addr, k.Protocol, k.Port)
}

// Compare is the order of Frontends in a Table.
func (k Key) Compare(o Key) int {
	// One after the other: a large Table is compared a million times.
	if c := cmp.Compare(k.Kind, o.Kind); c != 0 {
		return c
	}
	if c := cmp.Compare(k.Family, o.Family); c != 0 {
		return c
	}
	if c := k.Addr.Compare(o.Addr); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(k.Protocol, o.Protocol), cmp.Compare(k.Port, o.Port))
}

// Verdict is what happens to a new connection that no endpoint takes.
type Verdict uint8

// The verdicts. Reject is a reset for TCP and an ICMP error for the rest.
const (
	Forward Verdict = iota // there is an endpoint for everybody
	Reject
	Drop
)

func (v Verdict) String() string { return [...]string{"forward", "reject", "drop"}[v] }

// Frontend is one address and port (or node port) with the endpoints behind it.
//
// A ClusterIP's packets go to Cluster (which holds this node's endpoints alone
// under internalTrafficPolicy Local) and are masqueraded only if the source is
// no local pod and local pods are known (Table.LocalPods). Packets to the other
// kinds go to Cluster and are always masqueraded; with LocalOnly
// (externalTrafficPolicy Local) only packets from this node itself are
// masqueraded to Cluster, packets from its pods go to Cluster as they are, and
// all others go to Local with their source kept.
type Frontend struct {
	Key
	Service  snapshot.Ref // who it belongs to; not held by the kernel
	PortName string       // not held by the kernel
	created  int64        // of the Service, in seconds since 1970: the older one wins a clash

	// Ranges are the ports of a Frontend that is Ranged, sorted, all of its Protocol. A
	// Frontend with one of these ports as its Port takes that port's packets instead. The
	// endpoints then have the port 0: each packet goes to the port that it was sent to.
	Ranges []snapshot.PortRange

	LocalOnly bool
	// Directed says that another node may pass packets on to this one (package director):
	// those take an endpoint of Local, with their source kept. A VIP with LocalOnly is not.
	Directed bool
	// AllPorts gives a client the same pod at every Frontend that has it and the same pods:
	// at all ports and addresses of a Service, over all protocols. Affinity is without
	// effect then.
	AllPorts bool
	Empty    Verdict          // for the packets that have no endpoint; Forward if all have one
	Cluster  []netip.AddrPort // sorted, no duplicates
	Local    []netip.AddrPort // sorted; nil unless LocalOnly or Directed
	// Nodes says where the endpoints are that take connections, if Directed. Every node
	// has the same. Sorted by name; not held by the kernel.
	Nodes []NodeEndpoints
	// Serving are all endpoints that serve, also those that take no new connection:
	// they terminate, or the topology prefers others. Their connections stay. Sorted;
	// nil: those of Cluster and Local. Not held by the kernel.
	Serving []netip.AddrPort
	// Lost are endpoints on nodes that are lost (Options.Gone), while the port has
	// others. All their connections end. Sorted; not held by the kernel.
	Lost []netip.AddrPort
	// Members are all endpoints of the Service, in whatever state. If it is not nil, open
	// connections to others end. Sorted; not held by the kernel.
	Members  []netip.AddrPort
	Affinity time.Duration // an AffinityTimeout: a client stays with its endpoint so long after its last new connection; 0: no affinity
	// Helper is the helper of the connections, if they are of its protocol; not held by the
	// engine: see package assist.
	Helper snapshot.Helper
	// Sources are the only sources that may open a connection (VIP and
	// ExternalIP only; dropped otherwise, checked before DNAT): sorted, not
	// overlapping. nil: all.
	Sources []netip.Prefix
}

// NodeEndpoints is how many endpoints a node has, and which; the name "" is not a known node.
type NodeEndpoints struct {
	Node      string
	Endpoints int
	At        []netip.AddrPort // sorted
}

func (n NodeEndpoints) equal(o NodeEndpoints) bool {
	return n.Node == o.Node && n.Endpoints == o.Endpoints && slices.Equal(n.At, o.At)
}

// Way is a link and its number, 1 to marks.MostLinks. Answers to connections that came in
// by it have a mark that holds the number, unless the routes lead to the client by the
// link anyway.
type Way struct {
	Link   string
	Number int
	VRF    string // that the link is in: what came in by it is for the node's own routes; "": none
}

func (w Way) String() string {
	s := fmt.Sprintf("%s as %d", w.Link, w.Number)
	if w.VRF != "" {
		s += " in " + w.VRF
	}
	return s
}

// Target is a protocol and an endpoint.
type Target struct {
	Protocol snapshot.Protocol
	Addr     netip.AddrPort
}

func (t Target) String() string { return fmt.Sprintf("%s %s", t.Protocol, t.Addr) }

// Compare orders by protocol, then address and port.
func (t Target) Compare(o Target) int {
	return cmp.Or(cmp.Compare(t.Protocol, o.Protocol), t.Addr.Compare(o.Addr))
}

// Table is all that one node's engine holds, both families. Slices are sorted
// and without duplicates.
type Table struct {
	Frontends []*Frontend
	// NodePortAddrs are this node's addresses on which NodePort frontends answer.
	NodePortAddrs []netip.Addr
	// ServiceCIDRs: new connections to an address in them that no ClusterIP has are dropped.
	ServiceCIDRs []netip.Prefix
	// LocalPods are the source prefixes of this node's pods. None contains another, and
	// neighbours stay apart: a pod that comes or goes is one prefix. Without any, nothing
	// counts as a local pod and ClusterIP traffic is not masqueraded.
	LocalPods []netip.Prefix
	// LocalLinks are names of links: what comes in from them is from a local pod as
	// well. "cali*" is every link whose name begins so. Sorted.
	LocalLinks []string
	// Uplinks are names of links by which clients' packets come from other hosts, sorted.
	// What came in by one with its source kept was for an endpoint here. If it would leave
	// by one again, that endpoint has gone, and the client is told.
	Uplinks []string
	// Ways are links by which answers may have to leave although the routes lead elsewhere:
	// those to connections that came in by them. Sorted by name.
	Ways []Way
	// Hairpin lists this node's own endpoints: a connection that an endpoint
	// makes to itself is masqueraded. The port 0 is that of a Frontend that is Ranged: every
	// port of the endpoint.
	Hairpin []Target
	// KeepPorts lists endpoints: a connection to one that is masqueraded keeps its source
	// port, if that is free. The port 0 is as in Hairpin.
	KeepPorts []Target
	// OwnClusterIPs are the ClusterIPs that are addresses of the node's links too:
	// NodeLocal DNSCache answers there, for example. Packets that are not tracked
	// reach it, and so must sockets. Not held by the kernel.
	OwnClusterIPs []netip.Addr

	history *history // nil unless a Compiler made it: see Changed
}

// Addrs returns the distinct addresses of the frontends of one kind and family,
// sorted. New connections to undefined ports of a ClusterIP, VIP or Guard are rejected;
// an ExternalIP is not ours, and what is not a frontend of it passes.
func (t *Table) Addrs(kind Kind, family snapshot.Family) []netip.Addr {
	var out []netip.Addr
	for _, f := range t.Frontends {
		if f.Kind == kind && f.Family == family && (len(out) == 0 || out[len(out)-1] != f.Addr) {
			out = append(out, f.Addr)
		}
	}
	return out
}

// HasAddr reports whether a frontend of this kind has the address.
func (t *Table) HasAddr(kind Kind, addr netip.Addr) bool {
	first := Key{Kind: kind, Family: snapshot.FamilyOf(addr), Addr: addr}
	i, _ := slices.BinarySearchFunc(t.Frontends, first, func(f *Frontend, k Key) int { return f.Key.Compare(k) })
	return i < len(t.Frontends) && t.Frontends[i].Kind == kind && t.Frontends[i].Addr == addr
}

// Frontend returns the Frontend with key, or nil.
func (t *Table) Frontend(key Key) *Frontend {
	i, ok := slices.BinarySearchFunc(t.Frontends, key, func(f *Frontend, k Key) int { return f.Key.Compare(k) })
	if !ok {
		return nil
	}
	return t.Frontends[i]
}

// String prints the Table, a line an entry.
func (t *Table) String() string {
	var b strings.Builder
	for _, f := range t.Frontends {
		b.WriteString(f.String())
		b.WriteByte('\n')
	}
	list(&b, "nodeport-address", t.NodePortAddrs)
	list(&b, "service-cidr", t.ServiceCIDRs)
	list(&b, "local-pods", t.LocalPods)
	for _, l := range t.LocalLinks {
		fmt.Fprintf(&b, "local-link %s\n", l)
	}
	for _, l := range t.Uplinks {
		fmt.Fprintf(&b, "uplink %s\n", l)
	}
	list(&b, "way", t.Ways)
	list(&b, "hairpin", t.Hairpin)
	list(&b, "keep-ports", t.KeepPorts)
	list(&b, "own-cluster-ip", t.OwnClusterIPs)
	return b.String()
}

func list[T fmt.Stringer](b *strings.Builder, what string, items []T) {
	for _, it := range items {
		fmt.Fprintf(b, "%s %s\n", what, it)
	}
}

func (f *Frontend) String() string {
	var b strings.Builder
	b.WriteString(f.Key.String())
	if f.Ranged() {
		b.WriteString(" ports=" + f.ports())
	}
	fmt.Fprintf(&b, " -> %s", addrs(f.Cluster))
	if f.LocalOnly {
		fmt.Fprintf(&b, " local %s", addrs(f.Local))
	}
	if f.Directed {
		fmt.Fprintf(&b, " directed to %s", addrs(f.Local))
		for _, n := range f.Nodes {
			fmt.Fprintf(&b, " %s=%d", n.Node, n.Endpoints)
		}
	}
	if f.Serving != nil {
		fmt.Fprintf(&b, " serving %s", addrs(f.Serving))
	}
	if f.Lost != nil {
		fmt.Fprintf(&b, " lost %s", addrs(f.Lost))
	}
	if f.Members != nil {
		fmt.Fprintf(&b, " members %s", addrs(f.Members))
	}
	if f.Empty != Forward {
		fmt.Fprintf(&b, " else=%s", f.Empty)
	}
	if f.Affinity > 0 {
		fmt.Fprintf(&b, " affinity=%s", f.Affinity)
	}
	if f.Helper != "" {
		fmt.Fprintf(&b, " helper=%s", f.Helper)
	}
	if f.AllPorts {
		b.WriteString(" all-ports")
	}
	if f.Sources != nil {
		fmt.Fprintf(&b, " sources=%v", f.Sources)
	}
	if f.Service.Name != "" {
		fmt.Fprintf(&b, " service=%s", f.Service)
		if f.PortName != "" {
			fmt.Fprintf(&b, ":%s", f.PortName)
		}
	}
	return b.String()
}

func addrs(eps []netip.AddrPort) string {
	if len(eps) == 0 {
		return "none"
	}
	s := make([]string, len(eps))
	for i, e := range eps {
		s[i] = e.String()
	}
	return strings.Join(s, ",")
}

// Dataplane makes Tables true in a kernel. It is used by one goroutine.
type Dataplane interface {
	// Probe reports whether this kernel and these privileges suffice. It leaves
	// nothing behind.
	Probe(ctx context.Context) error
	// Sync makes the kernel hold t and nothing else of ours, in one transaction:
	// after an error the kernel holds what it held before. The first Sync adopts
	// what an earlier process left and writes only the difference. Syncing an
	// equal Table again changes nothing, unless somebody else changed the kernel's
	// copy: then that is repaired.
	Sync(ctx context.Context, t *Table) (Change, error)
	// Notify has changed called after somebody else changed what the last Sync left.
	// The next Sync repairs it. changed is called in any goroutine and must not block.
	// Notify is called before the first Sync, if at all.
	Notify(changed func())
	// Cleanup removes every kernel object of ours. It needs no memory of an
	// earlier Sync and succeeds when there is nothing.
	Cleanup(ctx context.Context) error
}

// Change says what a Sync did.
type Change struct {
	Added, Deleted int  // elements written and removed
	Rebuilt        bool // the static part was (re)written
	Repaired       bool // the kernel's copy differed from what the last Sync left
}

// Empty reports whether nothing was written.
func (c Change) Empty() bool { return c.Added == 0 && c.Deleted == 0 && !c.Rebuilt }
