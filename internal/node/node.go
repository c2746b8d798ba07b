// Package node decides, without acting, everything that one node does next: what
// it announces at layer 2 and over BGP, what its engine has to hold, what it says
// of itself, and when to decide again. Package agent carries a Plan out.
package node

import (
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Inputs are all that the decision depends on. None of them is changed later.
type Inputs struct {
	Now       time.Time // the only clock
	Node      string    // who decides
	Snapshot  *snapshot.Snapshot
	Changes   snapshot.Changes // what Snapshot changed; never changes the result
	Links     []snapshot.Link  // of this node
	Self      *snapshot.Node   // this node as it was last known; nil: it never was
	Addrs     []netip.Addr     // of this node, on which node ports answer
	Own       []netip.Addr     // of this node's links, without the VIPs that it holds
	Routed    []netip.Addr     // of pods, to which this node has a route
	Engine    Engine
	Held      []announcer.Claim // what the kernel answers for now, sorted
	View      announcer.View    // what this node holds of the others
	MACs      []string          // of the cluster's nodes, as this node remembers them
	Sure      bool              // View may be acted on
	Reach     announcer.Reach   // what this node knows of the others by itself
	Passwords map[snapshot.SecretKey]string
	Routers   []snapshot.Router // that this node knows of
	Removed   bool              // fairlead is being removed from the cluster
	// Unforwarded are the families whose packets this node does not forward, sorted.
	Unforwarded []snapshot.Family
	// Director is what this node can do as a part of the director; nil: it is not known yet.
	Director *snapshot.DirectorState
}

// Engine is what forwards Services on this node, as it was last confirmed.
type Engine struct {
	// Known is false until the engine has answered once. What an earlier agent left
	// in the kernel then stays as it is.
	Known  bool
	InSync bool // it holds the last Program
	// Other says that another proxy forwards instead. Ready is not read then.
	Other bool
	Ready map[netip.Addr]bool // the VIPs that it holds
}

// Plan is what to do, in the order of its fields. Withdraw comes before Program
// and Announce after it: a node must never attract what it cannot forward.
// Announce names only what Engine.Ready already confirms. What Program adds is
// announced by the Plan that follows its confirmation.
type Plan struct {
	Withdraw Withdrawal
	Program  Program
	Announce Announcement
	// Watch names the nodes whose kernels to ask; nil: as before.
	Watch *announcer.Watching
	// Report is what to say to the other agents; nil: nothing is known yet.
	Report *announcer.Report
	State  State
	// Wake is when to decide again even if nothing happens. Zero: no such time.
	Wake time.Time
}

// Withdrawal is what to give up before the engine changes.
type Withdrawal struct {
	Claims []announcer.Claim // sorted
	Routes *bgp.Plan         // the paths that stay; nil: none is to be withdrawn
}

// Program is what the engine has to hold: the arguments of proxy.Compile, and who the
// nodes are that pass packets on to each other.
type Program struct {
	Snapshot    *snapshot.Snapshot
	Self        *snapshot.Node
	Addrs       []netip.Addr // on which node ports answer
	Own         []netip.Addr // of the node's links
	Routed      []netip.Addr // of the node's pods
	Quarantined []string     // nodes whose endpoints take no traffic, sorted
	Links       []snapshot.Link
	View        announcer.View // not to be acted on unless Sure
	Sure        bool
	Elected     announcer.Plan // who owns which address at layer 2
}

// Announcement is what to announce once the engine holds it.
type Announcement struct {
	// Layer2 is nil while this node is not sure who is alive. Leases then stay as
	// they are, and run out if that lasts.
	Layer2 *announcer.Set
	Routes bgp.Plan
}

// State is what this node says of its decision, layer 2 and BGP together.
type State struct {
	Draining bool
	// DrainsFor and Stays are what the others are told: see snapshot.Electable.
	DrainsFor snapshot.DrainCauses
	Stays     []netip.Addr
	Elected   []announcer.VIP // at layer 2; those that wait for their last owner too
	Leaving   []announcer.VIP // held on until their next owner can take them
	Routed    []bgp.VIP
	// Refused has one refusal for each VIP that is announced by no way.
	Refused []announcer.Refused
	// Director and Unforwarded are those of Inputs.
	Director    *snapshot.DirectorState
	Unforwarded []snapshot.Family
}

// Memory is what one decision leaves to the next. The zero value is an agent
// that starts.
type Memory struct {
	handover announcer.Handover
	elected  announcer.Plan // of layer 2
	leaving  []departure
	routes   bgp.Plan
	draining time.Time // since when; zero: it does not drain
	stays    staying
	others   everyRecord
	set      lastSet
	links    linkHealth
	watched  lastWatched
	withdrew lastWithdrawn
	refused  lastRefused
	follows  following
}

// Decide returns the Plan for in, after a decision that left was.
func Decide(in Inputs, was Memory) (Plan, Memory) {
	return decide(in, was, announcer.Decide, bgp.Decide)
}

// Decider is Decide with the memory inside, for the agent: it decides again only
// about the addresses where something changed. The result never depends on
// that. The zero value is an agent that starts. It is not safe for concurrent use.
type Decider struct {
	memory Memory
	elect  announcer.Decider
	route  bgp.Decider
}

// Decide is like the function Decide. The Plan shares values with earlier ones
// and must not be changed.
func (d *Decider) Decide(in Inputs) (p Plan) {
	p, d.memory = decide(in, d.memory, d.elect.Decide, d.route.Decide)
	return p
}

// decide is the decision. The way from elect to State is one rule after the
// other, each in a function of its name in rules.go.
func decide(in Inputs, was Memory, elect func(announcer.Input) announcer.Plan, route func(bgp.Input) bgp.Plan) (p Plan, next Memory) {
	next = was
	ready := next.ready(in)
	self := snapshot.Electable{Node: in.Node, InSync: in.Engine.InSync, Links: in.Links, Protocol: announcer.Protocol, Director: in.Director, Unforwarded: in.Unforwarded}
	self.DrainsFor, self.Draining = drains(in)
	self.Stays = was.stays.before(in)
	told := self
	var untilLink time.Time
	told.Links, next.links, untilLink = was.links.next(in)
	told.Director = takes(in)
	election := announcer.Input{
		Snapshot: in.Snapshot, Changes: in.Changes, Node: in.Node, Self: told, Ready: ready,
		Alive: in.View.Candidates(), Others: in.View.NodeStates(), MACs: in.MACs,
	}
	var untilTold, untilLacks time.Time
	// Not sure: after a standstill others may have what this node held. Its leases run out if that lasts.
	if in.Sure && in.Engine.Known {
		election.Lacks, untilLacks = next.follows.lacking(in)
		next.elected = elect(in.Reach.Without(election))
		told.Stays = announcer.Told(next.elected.Stays)
		next.stays = staying{known: true, addrs: told.Stays, rebalance: rebalanced(in.Snapshot)}
		p.Announce.Layer2, p.Wake = next.layer2Set(in, in.Reach.Without(election), was)
		watchers := election
		// A link that still proves itself is asked on already.
		watchers.Self = self
		next.watched = was.watched.next(in.Node, next.elected)
		watching := announcer.NewWatching(watchers, in.View, next.watched.owners, in.Reach)
		watching.ListenOn(p.Announce.Layer2.AwaitedOn(), in.Links)
		p.Watch = &watching
		next.withdrew = was.withdrew.next(in.Held, p.Announce.Layer2.Claims)
		p.Withdraw.Claims = next.withdrew.claims
	}
	next.draining = drainingSince(self.Draining, was.draining, in.Now)
	retreats, until := retreating(next.draining, in.Now)
	p.Wake = earliest(earliest(p.Wake, until), earliest(untilLink, untilLacks))
	next.routes = route(bgp.Input{
		// BGP needs no link that has proved itself: the session does.
		Snapshot: in.Snapshot, Changes: in.Changes, Node: in.Node, Self: self, Ready: routable(ready, in.Engine), Passwords: in.Passwords, Routers: in.Routers, Retreating: retreats,
	})
	p.Announce.Routes = next.routes
	p.Withdraw.Routes = narrowed(was.routes, next.routes)
	p.Program = Program{Snapshot: in.Snapshot, Self: in.Self, Addrs: in.Addrs, Own: in.Own, Routed: in.Routed, Quarantined: in.View.Quarantined(), Links: in.Links, View: in.View, Sure: in.Sure, Elected: next.elected}
	if in.Engine.Known {
		p.Report = &announcer.Report{Electable: told}
		p.Report.Knows, untilTold = next.follows.tell(in)
		p.Wake = earliest(p.Wake, untilTold)
	}
	next.refused = was.refused.next(next.elected.Refused, next.routes)
	p.State = State{
		Draining: self.Draining, DrainsFor: self.DrainsFor, Stays: told.Stays, Elected: next.elected.Announce, Leaving: vips(next.leaving), Routed: next.routes.Announce,
		Refused: next.refused.all, Director: in.Director, Unforwarded: in.Unforwarded,
	}
	return p, next
}
