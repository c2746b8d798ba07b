package agent

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/announcer/watch"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// reach asks the kernels of other nodes on links, and tells the gossip who does not answer.
type reach struct {
	node    string
	watcher *l2.Watcher
	gossip  membership
	links   func() []snapshot.Link
	changed func() // has everything decided again
	loop    *reconcile.Loop
	last    []watch.Target // the lost ones that were decided on
	returns atomic.Uint64  // announcer.Reach.Returns
}

func newReach(cfg *Config, gossip membership, links func() []snapshot.Link, changed func()) *reach {
	r := &reach{node: cfg.Node, watcher: l2.NewWatcher(cfg.reportKey, cfg.Log), gossip: gossip, links: links, changed: changed, loop: reconcile.New("reach", cfg.Log)}
	// Others take over what is known here, as soon as it is.
	r.loop.Coalesce, r.loop.Resync = 0, time.Second
	r.watcher.Changed = r.loop.Wake
	return r
}

// Run tells the gossip what the watcher finds, until ctx ends.
func (r *reach) Run(ctx context.Context) { r.loop.Run(ctx, r.step) }

func (r *reach) step(context.Context) error {
	view, _ := r.gossip.View()
	links := r.links()
	nodes, self := map[string]bool{}, false
	seen := r.watcher.Seen()
	for _, at := range seen.Lost {
		switch {
		case !speaksOn(view, links, at):
		case at.Node == r.node:
			self = true
		default:
			nodes[at.Node] = true
		}
	}
	r.gossip.SetLost(nodes, self) // also if it said so before: the gossip may have begun since
	if !slices.Equal(r.last, seen.Lost) {
		if found(r.last, seen.Lost) {
			r.returns.Add(1)
		}
		r.last = seen.Lost
		r.changed()
	}
	return nil
}

// found reports whether was has a target that is lost, and now has not.
func found(was, now []watch.Target) bool {
	return slices.ContainsFunc(was, func(at watch.Target) bool { return !slices.Contains(now, at) })
}

// speaksOn reports whether the agent of at's node is reached by at's link. A node that is
// lost there is gone. Of another, that link is.
func speaksOn(view announcer.View, links []snapshot.Link, at watch.Target) bool {
	m := view.Member(at.Node)
	i := slices.IndexFunc(links, func(l snapshot.Link) bool { return l.Name == at.Link })
	return m != nil && i >= 0 && links[i].Contains(m.Addr.Addr())
}

// known returns what decisions need of what was found.
func (r *reach) known(view announcer.View) announcer.Reach {
	links, seen := r.links(), r.watcher.Seen()
	out := announcer.Reach{Lost: map[string][]string{}, Returns: r.returns.Load()}
	for _, at := range seen.Lost {
		if far := announcer.FarName(links, view, at.Node, at.Link); far != "" {
			out.Lost[at.Node] = append(out.Lost[at.Node], far)
		}
	}
	return out
}

// lastAnswer returns when a node that does not answer did so last; zero if it answers, or if
// this node does not ask it.
func (r *reach) lastAnswer(node string, known announcer.Reach) time.Time {
	if len(known.Lost[node]) == 0 {
		return time.Time{}
	}
	return r.watcher.Seen().Last[node]
}

// answers reports whether the kernel of a node answers on a link.
func (r *reach) answers(node string) bool {
	return slices.ContainsFunc(r.watcher.Seen().Answering, func(at watch.Target) bool { return at.Node == node })
}
