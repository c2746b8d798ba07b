// Package egress decides which connections of pods leave the cluster with the address of
// a Service, and by which way. It is pure; package kernel acts on what it decides.
//
// The node that announces the address, its owner, translates the source. The nodes of the
// pods send these packets to the owner. So answers find their connection: they come to the
// node that has the address.
package egress

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/direct"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Inputs are all that the decision depends on.
type Inputs struct {
	Node     string // who decides
	Snapshot *snapshot.Snapshot
	Links    []snapshot.Link // of this node
	View     announcer.View  // who the other nodes are
	Elected  announcer.Plan  // who owns which address at layer 2
	Own      []netip.Addr    // addresses of this node's links
	Pods     []netip.Prefix  // sources of this node's pods
	// Services are cluster-wide prefixes of Services beside those of the Snapshot.
	Services []netip.Prefix
}

// State is what a node has to do. The zero value is a node that does nothing.
type State struct {
	Pods   []Pod          // sorted by address
	Inside []netip.Prefix // where packets keep their usual way: sorted, merged
}

// Way is what a node does with the connections of a pod.
type Way uint8

// The ways.
const (
	Held Way = iota // it drops them
	Own             // it translates their source to VIP
	Via             // it sends them to Gateway
)

func (w Way) String() string { return [...]string{"held", "own", "via"}[w] }

// Pod is one address of a pod.
type Pod struct {
	Addr    netip.Addr
	Service snapshot.Ref
	Opens   bool       // new connections count; otherwise only those that the pod has
	VIP     netip.Addr // the zero Addr if the Service has none of the family
	Way     Way
	Ports   Ports      // that the source gets, of Own
	Gateway netip.Addr // of Via: the owner, in a network that this node has too
	Link    int        // of Via: index of the link to Gateway
}

func (p Pod) String() string {
	text := fmt.Sprintf("%s %s %s", p.Addr, p.Way, p.Service)
	switch p.Way {
	case Own:
		text += fmt.Sprintf(" as %s ports %s", p.VIP, p.Ports)
	case Via:
		text += fmt.Sprintf(" as %s by %s link %d", p.VIP, p.Gateway, p.Link)
	}
	if !p.Opens {
		text += " keeps"
	}
	return text
}

// String prints the State, a line an entry.
func (s State) String() string {
	var b strings.Builder
	for _, p := range s.Pods {
		fmt.Fprintln(&b, p)
	}
	for _, p := range s.Inside {
		fmt.Fprintf(&b, "inside %s\n", p)
	}
	return b.String()
}

// Decide returns what the node does, and the problems of single Services: why connections
// of their pods on this node are held or left out. Both are empty while no Service asks for
// egress.
func Decide(in Inputs) (State, []snapshot.Problem) {
	services := asking(in.Snapshot)
	if len(services) == 0 {
		return State{}, nil
	}
	d := decision{Inputs: in, ports: map[netip.Addr]Ports{}, taken: map[netip.Addr]snapshot.Ref{}, nodes: nodeAddrs(in.Snapshot, in.Own)}
	for _, svc := range services {
		d.service(svc)
	}
	slices.SortFunc(d.state.Pods, func(a, b Pod) int { return a.Addr.Compare(b.Addr) })
	d.state.Inside = inside(in, d.nodes)
	return d.state, d.problems
}

// asking returns the Services that ask for egress: of two that have one pod, the older
// one counts. By name alone a tenant could choose to come first.
func asking(s *snapshot.Snapshot) (out []*snapshot.Service) {
	for _, svc := range s.Services {
		if svc.Leaves() {
			out = append(out, svc)
		}
	}
	slices.SortStableFunc(out, func(a, b *snapshot.Service) int {
		return cmp.Or(a.Created.Compare(b.Created), a.Ref.Compare(b.Ref))
	})
	return out
}

// decision is a State in the making.
type decision struct {
	Inputs
	state    State
	problems []snapshot.Problem
	ports    map[netip.Addr]Ports        // by VIP
	taken    map[netip.Addr]snapshot.Ref // which Service a pod's address leaves with
	nodes    map[netip.Addr]bool         // addresses of nodes
}

// service adds the pods of one Service.
func (d *decision) service(svc *snapshot.Service) {
	var said said
	ways := map[snapshot.Family]Pod{}
	for _, ep := range svc.Endpoints {
		addr := ep.Addr.Addr()
		if ep.Node == "" || !routable(addr) {
			continue // not a pod
		}
		// A pod in the node's network sends with the node's address, as the node itself does.
		if d.nodes[addr] {
			said.host = said.host || ep.Node == d.Node
			continue
		}
		if by, ok := d.taken[addr]; ok {
			if by != svc.Ref && ep.Node == d.Node {
				said.shared = by
			}
			continue // or another port of this pod
		}
		d.taken[addr] = svc.Ref
		family := snapshot.FamilyOf(addr)
		way, known := ways[family]
		if !known {
			way = d.way(svc, family, &said)
			ways[family] = way
		}
		d.state.Pods = append(d.state.Pods, d.pod(way, ep, &said))
	}
	d.problems = append(d.problems, said.problems(svc.Ref)...)
}

// pod is the endpoint ep of a Service whose packets go by way.
func (d *decision) pod(way Pod, ep snapshot.Endpoint, said *said) Pod {
	p, here := way, ep.Node == d.Node
	p.Addr = ep.Addr.Addr()
	// The pod's node decides what a new connection is. What it sends here is one.
	p.Opens = ep.Ready || ep.Terminating || !here
	switch {
	case here && p.Way == Held:
		said.held = true
	case !here && p.Way == Via:
		// A pod's own node sends to the owner. A packet that comes here was sent to the
		// owner of before.
		p.Way, p.Gateway, p.Link = Held, netip.Addr{}, 0
	}
	return p
}

// way returns how packets of a Service's pods leave, as a Pod without an address. It notes
// why they are held.
func (d *decision) way(svc *snapshot.Service, family snapshot.Family, said *said) (p Pod) {
	p.Service = svc.Ref
	vip, ok := d.Snapshot.EgressVIP(svc, family)
	if !ok {
		said.why = fmt.Sprintf("the Service has no %s address", family)
		return p
	}
	p.VIP = vip
	owner := d.Elected.AnnouncedBy(vip, d.Node)
	switch owner {
	case "":
		said.why = fmt.Sprintf("no node announces %s at layer 2", vip)
	case d.Node:
		if p.Ports, ok = d.portsOf(vip); !ok {
			said.why = fmt.Sprintf("ports of Services at %s leave no free range for outgoing connections", vip)
			return p
		}
		p.Way = Own
	default:
		if p.Gateway, p.Link, ok = d.gateway(owner, family); !ok {
			said.why = fmt.Sprintf("node %s, which announces %s, is in no network of node %s", owner, vip, d.Node)
			return p
		}
		p.Way = Via
	}
	return p
}

// portsOf returns the ports that the source of connections with vip gets.
func (d *decision) portsOf(vip netip.Addr) (Ports, bool) {
	p, known := d.ports[vip]
	if !known {
		p = free(servicePorts(d.Snapshot, vip))
		d.ports[vip] = p
	}
	return p, p.First > 0
}

// gateway returns where this node reaches node: an address of it in a network that this
// node has too, and the link. Its InternalIPs come first.
func (d *decision) gateway(node string, family snapshot.Family) (netip.Addr, int, bool) {
	if n := d.Snapshot.Node(node); n != nil {
		for _, a := range n.InternalIPs {
			if i := slices.IndexFunc(d.Links, func(l snapshot.Link) bool { return l.Contains(a) }); i >= 0 && snapshot.FamilyOf(a) == family {
				return a, d.Links[i].Index, true
			}
		}
	}
	m := d.View.Member(node)
	if m == nil || m.Report == nil {
		return netip.Addr{}, 0, false
	}
	for _, near := range d.Links {
		for _, far := range m.Report.Links {
			for _, p := range far.Prefixes {
				if snapshot.FamilyOf(p.Addr()) == family && direct.Adjacent(near, p) {
					return p.Addr(), near.Index, true
				}
			}
		}
	}
	return netip.Addr{}, 0, false
}
