// Package announcer decides which VIPs a node announces, on which of its links,
// and why it leaves the others out. It acts on nothing.
package announcer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

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
const ExcludeLabel = snapshot.ExcludeLabel

// Input is all that the decision depends on.
type Input struct {
	Snapshot *snapshot.Snapshot
	Node     string              // who decides
	Self     snapshot.Electable  // this node as it is now, fresher than the Snapshot's
	Alive    map[string]bool     // the nodes that may be elected as far as their health goes
	Ready    map[netip.Addr]bool // the VIPs that this node's engine holds now; not changed afterwards
	// Others is what other agents say of their nodes, fresher than the Snapshot's
	// NodeStates, which count for the rest. A running agent has no NodeStates.
	Others map[string]snapshot.Electable
	// Lacks are the addresses that the agents of other nodes have not heard of, by node.
	// These nodes cannot announce them.
	Lacks map[string]map[netip.Addr]bool
	// MACs are those of nodes that this node ever heard of. No election reads them: see Ours.
	MACs []string
	// Changes is what the Snapshot changed since another. A Decider reads it; it
	// never changes the result.
	Changes snapshot.Changes
}

// VIP is one address that this node announces.
type VIP struct {
	Addr     netip.Addr
	Links    []string // names, sorted
	Services []snapshot.Ref
	Heirs    []string      // the nodes that would own it if this one were lost, the next first
	Refresh  time.Duration // how often to announce it again; 0: never
}

// Refused is one address that this node does not announce.
type Refused struct {
	Addr  netip.Addr
	Owner string   // the elected node, "" if none
	Heirs []string // the nodes that would own it if the owner were lost, the next first
	snapshot.Refusal
}

// Plan is the decision, sorted by address.
type Plan struct {
	Announce []VIP
	Refused  []Refused
	// Disputed are the addresses that this node would announce if no foreign host answered
	// for them. It asks again now and then.
	Disputed []VIP
	// Stays are the addresses that this node was elected for and keeps under
	// failback: Never, although another node may come before it one day.
	Stays []netip.Addr
}

// AnnouncedBy returns the node that announces addr when node decided p, "" if none does.
func (p Plan) AnnouncedBy(addr netip.Addr, node string) string {
	if _, here := slices.BinarySearchFunc(p.Announce, addr, func(v VIP, a netip.Addr) int { return v.Addr.Compare(a) }); here {
		return node
	}
	return p.Owner(addr)
}

// Decide elects one owner for every VIP that has a record: the rendezvous hash
// over the nodes that could forward it. Every node that sees the same inputs
// comes to the same owner.
func Decide(in Input) Plan {
	var p Plan
	e := newElection(in)
	for _, a := range in.Snapshot.Addresses {
		p.add(a.Addr, e.decide(a))
	}
	return p
}

// outcome is what is decided of one address: at most one of its fields, or
// refused and disputed.
type outcome struct {
	announce, disputed *VIP
	refused            *Refused
	stays              bool // see Plan.Stays
}

func (p *Plan) add(addr netip.Addr, o outcome) {
	if o.stays {
		p.Stays = append(p.Stays, addr)
	}
	if o.announce != nil {
		p.Announce = append(p.Announce, *o.announce)
	}
	if o.refused != nil {
		p.Refused = append(p.Refused, *o.refused)
	}
	if o.disputed != nil {
		p.Disputed = append(p.Disputed, *o.disputed)
	}
}

// decide returns what is decided of one address.
func (e *election) decide(a *snapshot.Address) outcome {
	// The address is free once its record is gone, and may be another Service's then.
	if a.Deleting {
		return outcome{}
	}
	svcs := holders(e.in.Snapshot, a)
	if len(svcs) == 0 {
		return outcome{}
	}
	b := e.ballot(a, svcs)
	won, refusal := b.elect()
	owner := Refused{Addr: a.Addr}
	if len(won) > 0 {
		owner.Owner, owner.Heirs = e.nodes[won[0]].Name, e.names(won[1:])
	}
	here := len(won) > 0 && owner.Owner == e.in.Node
	stays := here && b.mayStay(won[0])
	switch {
	case a.Conflict != "" && here:
		return outcome{refused: owner.withReason(AddressConflict, "answered for by "+a.Conflict), disputed: b.vip(won[0]), stays: stays}
	case a.Conflict != "":
		return outcome{refused: owner.withReason(AddressConflict, "answered for by "+a.Conflict)}
	case refusal != nil:
		return outcome{refused: owner.withReason(refusal.Reason, refusal.Message)}
	case !here:
		return outcome{refused: owner.withReason(NotOwner, e.nodes[won[0]].announces)}
	// Program first, announce second: a node that cannot forward must not attract.
	case !e.in.Ready[a.Addr]:
		return outcome{refused: owner.withReason(EngineNotReady, "the engine does not hold it yet"), stays: stays}
	}
	v := b.vip(won[0])
	v.Heirs = owner.Heirs
	return outcome{announce: v, stays: stays}
}

// elect returns the owner and its heirs, until the next call, or why there is no
// owner.
func (b *ballot) elect() ([]int, *snapshot.Refusal) {
	if !slices.ContainsFunc(b.services, func(s *snapshot.Service) bool { return usable(s, b.addr.Addr, "") }) {
		return nil, &snapshot.Refusal{Reason: NoEndpoint, Message: "no ready endpoint in the cluster"}
	}
	if won := b.winners(1 + mostHeirs); len(won) > 0 {
		return won, nil
	}
	return nil, &snapshot.Refusal{Reason: NoCandidate, Message: b.noCandidate()}
}

// vip is the address as the contender at i announces it.
func (b *ballot) vip(i int) *VIP {
	return &VIP{Addr: b.addr.Addr, Links: b.links(i), Services: refs(b.services), Refresh: b.refresh(i)}
}

func (r Refused) withReason(reason snapshot.Reason, message string) *Refused {
	r.Refusal = snapshot.Refusal{Reason: reason, Message: message}
	return &r
}

// String prints the plan, a line an address.
func (p Plan) String() string {
	var b strings.Builder
	for _, v := range p.Announce {
		fmt.Fprintf(&b, "announce %s on %s for %v", v.Addr, strings.Join(v.Links, ","), v.Services)
		if v.Refresh > 0 {
			fmt.Fprintf(&b, " every %s", v.Refresh)
		}
		b.WriteByte('\n')
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
		// A Service that was made again under the same name holds nothing yet.
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

// Judged is what the election makes of one node.
type Judged struct {
	Node   string
	Unfit  string   // why it cannot be elected, in words that follow its name; "" if it can
	Links  []string // on which it would announce
	Weight int      // the sum of the preferences for it
	Stays  bool     // it has the address and keeps it, whatever others are preferred
	Rank   int      // 1 is the owner, 2 its heir, and so on; 0 if it cannot be elected
}

// Judge says of every node whether it can be elected for addr, by name; nil if
// no Service holds addr.
func Judge(in Input, addr netip.Addr) []Judged {
	for _, a := range in.Snapshot.Addresses {
		svcs := holders(in.Snapshot, a)
		if a.Addr != addr || a.Deleting || len(svcs) == 0 {
			continue
		}
		b := newElection(in).ballot(a, svcs)
		won := b.winners(len(b.nodes))
		out := make([]Judged, len(b.nodes))
		for i, n := range b.nodes {
			out[i] = Judged{Node: n.Name, Unfit: b.unfit(i), Links: b.links(i), Weight: b.weight(i), Stays: b.stays(i), Rank: slices.Index(won, i) + 1}
			// Nodes that drain are left out of the winners only while there are others.
			if out[i].Unfit == "" && !slices.Contains(won, i) {
				out[i].Unfit = "is draining"
				if why := n.state.DrainsFor.String(); why != "" {
					out[i].Unfit += " (" + why + ")"
				}
			}
		}
		return out
	}
	return nil
}
