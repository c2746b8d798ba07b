package agent

import (
	"context"
	"reflect"
	"time"

	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport"
)

// step decides what this node does now, and has it done.
func (a *Agent) step(context.Context) error {
	began := time.Now()
	s, triggers := a.cluster.snapshot(began)
	if s == nil {
		return nil
	}
	in := a.collect(s, began)
	plan := a.decision.decider.Decide(in)
	a.decision.loop.At(plan.Wake)
	a.apply(in, plan, triggers)
	return nil
}

// collect is all that the decision about s depends on.
func (a *Agent) collect(s *snapshot.Snapshot, now time.Time) node.Inputs {
	a.gossip.Follow(s)
	self := s.Node(a.cfg.Node)
	a.health.SetEligible(nodeport.Eligible(self))
	// A node whose Node object was deleted lost its node ports (TestNodeObjectIsDeleted).
	if self != nil {
		a.decision.self = self
	}
	links := a.links.State()
	in := node.Inputs{
		Now: now, Node: a.cfg.Node, Snapshot: s, Changes: a.cluster.changes(s), Links: a.decision.linksFor(links, s.Announcements),
		Self: a.decision.self, Own: links.Addrs, Routed: links.Pods, Addrs: nodeport.Resolve(a.decision.self, links.Addrs, a.cfg.NodePortAddresses), Engine: a.engine.State().Engine,
		Passwords: a.routes.Passwords(s), Routers: a.routes.routers.known(), Removed: a.removal.removed.Load(),
		Director: a.engine.director.Status(), Unforwarded: a.unforwarded(),
	}
	in.View, in.Sure = a.gossip.View()
	in.Reach = a.reach.known(in.View)
	in.MACs = a.neighbours.Learn(in.View, s)
	held, known := a.layer2.Held()
	in.Held, in.Sure = held, in.Sure && known
	return in
}

// linksFor returns the links that may announce. It is the last list while that is equal, so
// that those who compare lists see that nothing changed.
func (d *decision) linksFor(st link.State, announcements []*snapshot.Announcement) []snapshot.Link {
	if links := st.For(announcements); !reflect.DeepEqual(links, d.links) {
		d.links = links
	}
	return d.links
}

// apply gives plan to those who carry it out, and keeps what is said of it. The
// engine waits for the others to withdraw: the order is that of plan's fields.
func (a *Agent) apply(in node.Inputs, plan node.Plan, triggers []time.Time) {
	a.decision.mu.Lock()
	was := a.decision.state
	a.decision.plans++
	number := a.decision.plans
	a.decision.state = state{self: in.Self, view: in.View, plan: plan.State, routes: plan.Announce.Routes, named: in.Snapshot.Announcements}
	a.decision.mu.Unlock()
	a.gaps.follow(was.plan, plan.State, func(node string) time.Time { return a.reach.lastAnswer(node, in.Reach) })
	if plan.Announce.Layer2 != nil && in.View.Returns > was.view.Returns && len(in.Held) > 0 {
		a.cfg.Log.Info("a lost node came back: announcing again", "addresses", len(in.Held))
	}
	if plan.Watch != nil {
		a.reach.watcher.Follow(*plan.Watch)
	}
	a.layer2.Give(number, plan, in.Links)
	a.routes.Give(number, plan)
	a.engine.Give(number, plan.Program, in.Now, triggers)
	a.leaving.Follow(in, plan, a.engine.State().pods, a.cfg.Options.ServiceCIDRs)
	a.followLeases(in)
	a.gate.Follow(in.Snapshot, in.Self, a.cfg.MembersPort, plan.Announce.Routes)
	a.straying.Follow(in.Snapshot, in.Self)
	if plan.Report != nil {
		a.gossip.Say(*plan.Report)
	}
	a.metrics.decided(in, was.plan, plan.State)
	if number == 1 {
		a.sysctls.loop.Wake() // which links are bridges of pods is known from now on
	}
	a.report.loop.Wake()
}

// currentState is what this agent says of itself now.
func (a *Agent) currentState() state {
	a.decision.mu.Lock()
	st := a.decision.state
	a.decision.mu.Unlock()
	st.engineState = a.engine.State()
	st.held, _ = a.layer2.Held()
	return st
}
