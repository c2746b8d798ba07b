package agent

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// The taints of a node from which load is to go away, whoever put them there.
const (
	taintOutOfService = "node.kubernetes.io/out-of-service"
	taintShutdown     = "node.cloudprovider.kubernetes.io/shutdown"
)

// drains tells whether a node is to hand over what it announces: it is cordoned,
// deleted, out of service or shutting down. That its agent stops is none of these.
func drains(n *snapshot.Node) bool {
	return n == nil || n.Unschedulable || n.Deleting || slices.Contains(n.Taints, taintOutOfService) || slices.Contains(n.Taints, taintShutdown)
}

// reports is what the agents say of their nodes.
func reports(v announcer.View) map[string]snapshot.Electable {
	out := make(map[string]snapshot.Electable, len(v.Members))
	for _, m := range v.Members {
		if m.Report != nil {
			out[m.Node] = m.Report.Electable
		}
	}
	return out
}

// prepare gives up, before the engine changes, what the next plan does not have,
// and takes over what the engine holds already: that need not wait. Then the others
// are told, who wait for it.
func (a *Agent) prepare(in announcer.Input, view announcer.View, was state) {
	if was.ready == nil {
		return // nothing is known of the engine yet
	}
	in.Self.InSync = was.inSync
	next := announcer.Decide(in)
	take, leaving := a.hold(in, view, was, next)
	if _, err := a.holder.Sync(l2.Claims(announcer.Plan{Announce: slices.Concat(take, leaving)})); err != nil {
		a.Log.Error("announce", "error", err)
	}
	a.alive.Say(announcer.Report{Electable: in.Self})
}

// announce makes the kernel hold what this node is elected for now, and what it
// hands over to a node that cannot take it yet.
func (a *Agent) announce(in announcer.Input, was state, now *state) (err error) {
	in.Alive, in.Others = now.view.Candidates(), reports(now.view)
	now.announce = a.decider.Decide(in)
	a.holder.Know(known(in, now.announce))
	var take []announcer.VIP
	take, now.leaving = a.hold(in, now.view, was, now.announce)
	now.held, err = a.holder.Sync(l2.Claims(announcer.Plan{Announce: slices.Concat(take, now.leaving)}))
	if now.view.Returns > a.returns {
		a.Log.Info("a node came back that was gone: announcing again", "addresses", len(now.held))
		a.holder.Again()
	}
	a.returns = now.view.Returns
	a.metrics.moved(was.announce, now.announce)
	return err
}

// hold returns what to hold of next and of what was held, and has a step done when
// that changes by itself.
func (a *Agent) hold(in announcer.Input, view announcer.View, was state, next announcer.Plan) (take, leaving []announcer.VIP) {
	claims, err := a.holder.Adopt()
	if err != nil {
		a.Log.Error("look for what an earlier agent announced", "error", err)
	}
	has := map[netip.Addr]bool{}
	for _, c := range claims {
		has[c.Addr] = true
	}
	held := func(addr netip.Addr) bool { return has[addr] }
	a.handover.Follow(a.Node, was.announce, next, held)
	a.holder.Await(a.handover.Left(in, view, next.Announce, l2.Lease, time.Now()))
	a.handover.Elect(in.Alive[a.Node], time.Now())
	take, until := a.handover.Take(next.Announce, held, time.Now())
	if !until.IsZero() {
		time.AfterFunc(time.Until(until), a.loop.Wake)
	}
	var speaks func(string) bool
	if in.Alive[a.Node] && in.Self.InSync {
		speaks = func(node string) bool { return view.Member(node).Verdict == announcer.Alive }
	}
	before := slices.Concat(was.announce.Announce, was.leaving)
	slices.SortFunc(before, func(x, y announcer.VIP) int { return x.Addr.Compare(y.Addr) })
	before = slices.CompactFunc(before, func(x, y announcer.VIP) bool { return x.Addr == y.Addr })
	before = slices.DeleteFunc(before, func(v announcer.VIP) bool { return !held(v.Addr) })
	return take, announcer.Linger(before, next, speaks)
}

// silent lists the nodes that this one does not hear, with its verdict on them.
func silent(v announcer.View) []announcer.Member {
	return slices.DeleteFunc(slices.Clone(v.Members), func(m announcer.Member) bool { return m.Verdict == announcer.Alive })
}

// aboutMembers says how it stands with the other agents.
func aboutMembers(v announcer.View) (ok bool, reason, message string) {
	switch {
	case v.Guarded:
		return false, "Guarded", "more than half of the nodes vanished at once: the network broke, or this node is cut off; no endpoint of theirs is taken out"
	case len(v.Clashes) > 0:
		return false, "NameClash", strings.Join(v.Clashes, "; ")
	case len(v.Members) == 0:
		return false, "NotMet", "this agent has not met the others yet"
	}
	return true, "InTouch", "the agents speak with each other"
}
