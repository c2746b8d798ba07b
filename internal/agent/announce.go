package agent

import (
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
func reports(v announcer.View) map[string]snapshot.NodeState {
	out := make(map[string]snapshot.NodeState, len(v.Members))
	for _, m := range v.Members {
		if m.Report != nil {
			out[m.Node] = m.Report.NodeState()
		}
	}
	return out
}

// prepare gives up, before the engine changes, what the next plan does not have
// and nobody takes over in peace, and takes over what the engine holds already:
// that need not wait.
func (a *Agent) prepare(in announcer.Input, view announcer.View, was state) {
	if was.ready == nil {
		return // nothing is known of the engine yet
	}
	in.Self.InSync = was.inSync
	next := announcer.Decide(in)
	hold := announcer.Plan{Announce: slices.Concat(next.Announce, a.linger(in, view, was, next))}
	if _, err := a.holder.Sync(l2.Claims(hold)); err != nil {
		a.Log.Error("announce", "error", err)
	}
}

// announce makes the kernel hold what this node is elected for now, and for a
// while what it hands over.
func (a *Agent) announce(in announcer.Input, was state, now *state) (err error) {
	now.announce = a.decider.Decide(in)
	a.holder.Know(known(in, now.announce))
	now.leaving = a.linger(in, now.view, was, now.announce)
	hold := announcer.Plan{Announce: slices.Concat(now.announce.Announce, now.leaving)}
	now.held, err = a.holder.Sync(l2.Claims(hold))
	if now.view.Returns > a.returns {
		a.Log.Info("a node came back that was gone: announcing again", "addresses", len(now.held))
		a.holder.Again()
	}
	a.returns = now.view.Returns
	a.metrics.moved(was.announce, now.announce)
	return err
}

// linger returns what is to be held until others have it, and has a step done when
// that ends.
func (a *Agent) linger(in announcer.Input, view announcer.View, was state, next announcer.Plan) []announcer.VIP {
	var speaks func(string) bool
	if in.Alive[a.Node] && in.Self.InSync {
		speaks = func(node string) bool { return view.Member(node).Verdict == announcer.Alive }
	}
	held := slices.Concat(was.announce.Announce, was.leaving)
	slices.SortFunc(held, func(x, y announcer.VIP) int { return x.Addr.Compare(y.Addr) })
	held = slices.CompactFunc(held, func(x, y announcer.VIP) bool { return x.Addr == y.Addr })
	keep, until := a.handover.Linger(held, next, speaks, time.Now())
	if !until.IsZero() {
		time.AfterFunc(time.Until(until), a.loop.Wake)
	}
	return keep
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
