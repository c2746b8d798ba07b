// Package announcer decides which VIPs a node announces, on which of its links,
// and why it leaves the others out. It acts on nothing.
package announcer

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// The reasons for which a node does not announce a VIP.
const (
	NotOwner        snapshot.Reason = "NotOwner"        // another node was elected
	NoEndpoint      snapshot.Reason = "NoEndpoint"      // no usable endpoint in the cluster
	NoCandidate     snapshot.Reason = "NoCandidate"     // no node could forward and announce it
	EngineNotReady  snapshot.Reason = "EngineNotReady"  // elected, but the engine does not hold the VIP yet
	AddressConflict snapshot.Reason = "AddressConflict" // a foreign host answers for it
)

// ExcludeLabel keeps a node from announcing, with any value but a false one.
const ExcludeLabel = "node.kubernetes.io/exclude-from-external-load-balancers"

// Input is all that the decision depends on.
type Input struct {
	Snapshot *snapshot.Snapshot
	Node     string              // who decides
	Self     snapshot.Electable  // this node as it is now, fresher than the Snapshot's
	Alive    map[string]bool     // the nodes that may be elected as far as their health goes
	Ready    map[netip.Addr]bool // the VIPs that this node's engine holds now
	// Others is what other agents say of their nodes, fresher than the Snapshot's
	// NodeStates, which count for the rest.
	Others map[string]snapshot.Electable
}

// VIP is one address that this node announces.
type VIP struct {
	Addr     netip.Addr
	Links    []string // names, sorted
	Services []snapshot.Ref
}

// Refused is one address that this node does not announce.
type Refused struct {
	Addr  netip.Addr
	Owner string // the elected node, "" if none
	snapshot.Refusal
}

// Plan is the decision, sorted by address.
type Plan struct {
	Announce []VIP
	Refused  []Refused
	// Disputed are the addresses that this node would announce if no foreign host
	// answered for them. It is to ask again now and then.
	Disputed []VIP
}

// Decide elects one owner for every VIP that has a record: the rendezvous hash
// over the nodes that could forward it. Every node that sees the same inputs
// comes to the same owner.
func Decide(in Input) Plan {
	var p Plan
	for _, a := range in.Snapshot.Addresses {
		p.decide(in, a)
	}
	return p
}

// decide adds what is decided of one address.
func (p *Plan) decide(in Input, a *snapshot.Address) {
	if a.Deleting {
		return
	}
	svcs := holders(in.Snapshot, a)
	if len(svcs) == 0 {
		return
	}
	owner, refusal := elect(in, a, svcs)
	switch {
	case a.Conflict != "":
		p.refuse(a.Addr, owner, AddressConflict, "answered for by %s", a.Conflict)
		if owner == in.Node {
			p.Disputed = append(p.Disputed, vip(in, a, svcs))
		}
	case refusal != nil:
		p.Refused = append(p.Refused, Refused{Addr: a.Addr, Refusal: *refusal})
	case owner != in.Node:
		p.refuse(a.Addr, owner, NotOwner, "node %s announces it", owner)
	case !in.Ready[a.Addr]:
		p.refuse(a.Addr, owner, EngineNotReady, "the engine does not hold it yet")
	default:
		p.Announce = append(p.Announce, vip(in, a, svcs))
	}
}

func vip(in Input, a *snapshot.Address, svcs []*snapshot.Service) VIP {
	return VIP{Addr: a.Addr, Links: linksFor(in, in.Node, a, svcs), Services: refs(svcs)}
}

func (p *Plan) refuse(addr netip.Addr, owner string, reason snapshot.Reason, format string, args ...any) {
	p.Refused = append(p.Refused, Refused{Addr: addr, Owner: owner, Refusal: snapshot.Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}})
}

// String prints the plan, a line an address.
func (p Plan) String() string {
	var b strings.Builder
	for _, v := range p.Announce {
		fmt.Fprintf(&b, "announce %s on %s for %v\n", v.Addr, strings.Join(v.Links, ","), v.Services)
	}
	for _, v := range p.Disputed {
		fmt.Fprintf(&b, "ask for %s on %s\n", v.Addr, strings.Join(v.Links, ","))
	}
	for _, r := range p.Refused {
		fmt.Fprintf(&b, "silent %s %s\n", r.Addr, r.Refusal)
	}
	return b.String()
}

func holders(s *snapshot.Snapshot, a *snapshot.Address) []*snapshot.Service {
	var out []*snapshot.Service
	for _, h := range a.Holders {
		if svc := s.Service(h.Ref); svc != nil && svc.UID == h.UID && svc.Type == snapshot.LoadBalancer {
			out = append(out, svc)
		}
	}
	return out
}

func refs(svcs []*snapshot.Service) []snapshot.Ref {
	out := make([]snapshot.Ref, len(svcs))
	for i, s := range svcs {
		out[i] = s.Ref
	}
	return out
}

// elect returns the owner of a, or why it has none.
func elect(in Input, a *snapshot.Address, svcs []*snapshot.Service) (string, *snapshot.Refusal) {
	if !slices.ContainsFunc(svcs, func(s *snapshot.Service) bool { return usable(s, a.Addr, "") }) {
		return "", &snapshot.Refusal{Reason: NoEndpoint, Message: "no ready endpoint in the cluster"}
	}
	names, reasons := candidates(in, a, svcs)
	if len(names) == 0 {
		return "", &snapshot.Refusal{Reason: NoCandidate, Message: noCandidate(reasons)}
	}
	weight := func(name string) int { return preference(in, a, svcs, name) }
	best := slices.MaxFunc(names, func(x, y string) int {
		if d := weight(x) - weight(y); d != 0 {
			return d
		}
		return rank(x, a.Addr).compare(rank(y, a.Addr))
	})
	return best, nil
}

// candidates returns the names of the nodes that could forward and announce a for
// svcs, and of each other node why it could not. Nodes that drain are left out
// as long as there are others.
func candidates(in Input, a *snapshot.Address, svcs []*snapshot.Service) (names, reasons []string) {
	var draining []string
	for _, n := range in.Snapshot.Nodes {
		switch why := unfit(in, n, a, svcs); {
		case why != "":
			reasons = append(reasons, n.Name+" "+why)
		case in.state(n.Name).Draining:
			draining = append(draining, n.Name)
		default:
			names = append(names, n.Name)
		}
	}
	if len(names) == 0 {
		return draining, reasons
	}
	return names, reasons
}

// toldReasons is how many nodes a refusal speaks of.
const toldReasons = 8

func noCandidate(reasons []string) string {
	switch n := len(reasons); {
	case n == 0:
		return "the cluster has no nodes"
	case n > toldReasons:
		return fmt.Sprintf("%s; and %d nodes more", strings.Join(reasons[:toldReasons], "; "), n-toldReasons)
	}
	return strings.Join(reasons, "; ")
}

// unfit tells why n cannot be elected for a, in words that follow the node's
// name; "" if it can.
func unfit(in Input, n *snapshot.Node, a *snapshot.Address, svcs []*snapshot.Service) string {
	st := in.state(n.Name)
	switch {
	case st == nil:
		return "has no agent that was ever heard of"
	case !in.Alive[n.Name]:
		return "has an agent that is silent, or has not been healthy for long enough"
	case !st.InSync:
		return "has an engine that does not hold everything it should"
	case !n.Ready:
		return "is NotReady"
	case n.NetworkUnavail:
		return "has no network (condition NetworkUnavailable)"
	case n.Deleting:
		return "is being deleted"
	case excluded(n.Labels):
		return "has the label " + ExcludeLabel
	}
	for _, svc := range svcs {
		if svc.ExternalTrafficPolicy == snapshot.PolicyLocal && !usable(svc, a.Addr, n.Name) {
			return fmt.Sprintf("has no ready endpoint of %s, whose externalTrafficPolicy is Local", svc.Ref)
		}
	}
	if len(linksFor(in, n.Name, a, svcs)) == 0 {
		return "has no link that the address may be announced on"
	}
	return ""
}

// Judged is what the election makes of one node.
type Judged struct {
	Node   string
	Unfit  string   // why it cannot be elected, in words that follow its name; "" if it can
	Links  []string // on which it would announce
	Weight int      // the sum of the preferences for it
}

// Judge tells of every node whether it can be elected for addr, by name; nil if
// no Service holds addr.
func Judge(in Input, addr netip.Addr) []Judged {
	for _, a := range in.Snapshot.Addresses {
		svcs := holders(in.Snapshot, a)
		if a.Addr != addr || a.Deleting || len(svcs) == 0 {
			continue
		}
		names, _ := candidates(in, a, svcs)
		var out []Judged
		for _, n := range in.Snapshot.Nodes {
			why := unfit(in, n, a, svcs)
			if why == "" && !slices.Contains(names, n.Name) {
				why = "is draining"
			}
			out = append(out, Judged{
				Node: n.Name, Unfit: why, Links: linksFor(in, n.Name, a, svcs), Weight: preference(in, a, svcs, n.Name),
			})
		}
		return out
	}
	return nil
}

func (in Input) state(node string) *snapshot.Electable {
	if node == in.Node {
		return &in.Self
	}
	if st, ok := in.Others[node]; ok {
		return &st
	}
	if st := in.Snapshot.NodeState(node); st != nil {
		return &st.Electable
	}
	return nil
}

func excluded(labels map[string]string) bool {
	v, ok := labels[ExcludeLabel]
	return ok && !slices.Contains([]string{"false", "False", "FALSE", "f", "F", "0"}, v)
}

// usable tells whether svc has an endpoint of vip's family that takes new
// connections, on node or, if node is "", anywhere.
func usable(svc *snapshot.Service, vip netip.Addr, node string) bool {
	return slices.ContainsFunc(svc.Endpoints, func(e snapshot.Endpoint) bool {
		return (e.Ready || e.Serving) && (node == "" || e.Node == node) &&
			snapshot.FamilyOf(e.Addr.Addr()) == snapshot.FamilyOf(vip)
	})
}

// linksFor returns the names of node's links on which a is announced, sorted.
// Without any Announcement that selects the pool it is every link whose own
// prefix contains the address; with some it is the union of the links of those
// for layer 2, where a link that is named exactly need not contain it.
func linksFor(in Input, node string, a *snapshot.Address, svcs []*snapshot.Service) []string {
	st := in.state(node)
	if st == nil {
		return nil
	}
	anns, selected := announcements(in.Snapshot, node, a, svcs)
	var out []string
	for _, l := range st.Links {
		if !selected && l.Contains(a.Addr) || slices.ContainsFunc(anns, func(an *snapshot.Announcement) bool { return on(an, l, a.Addr) }) {
			out = append(out, l.Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func on(an *snapshot.Announcement, l snapshot.Link, addr netip.Addr) bool {
	if len(an.Interfaces) == 0 {
		return l.Contains(addr)
	}
	for _, pattern := range an.Interfaces {
		if pattern == l.Name {
			return true
		}
		if ok, err := path.Match(pattern, l.Name); err == nil && ok && l.Contains(addr) {
			return true
		}
	}
	return false
}

// announcements returns the layer-2 Announcements for a on node; selected tells
// whether any Announcement selects the pool at all.
func announcements(s *snapshot.Snapshot, node string, a *snapshot.Address, svcs []*snapshot.Service) (out []*snapshot.Announcement, selected bool) {
	var poolLabels, nodeLabels map[string]string
	if p := s.Pool(a.Pool); p != nil {
		poolLabels = p.Labels
	}
	if n := s.Node(node); n != nil {
		nodeLabels = n.Labels
	}
	for _, an := range s.Announcements {
		if !an.PoolSelector.Matches(poolLabels) {
			continue
		}
		selected = true
		every := !slices.ContainsFunc(svcs, func(svc *snapshot.Service) bool { return !an.ServiceSelector.Matches(svc.Labels) })
		if an.L2 && every && an.NodeSelector.Matches(nodeLabels) {
			out = append(out, an)
		}
	}
	return out, selected
}

// preference is the sum of the weights that Announcements give to node.
func preference(in Input, a *snapshot.Address, svcs []*snapshot.Service, node string) int {
	n := in.Snapshot.Node(node)
	anns, _ := announcements(in.Snapshot, node, a, svcs)
	sum := 0
	for _, an := range anns {
		for _, p := range an.PreferredNodes {
			if n != nil && p.Selector.Matches(n.Labels) {
				sum += p.Weight
			}
		}
	}
	return sum
}
