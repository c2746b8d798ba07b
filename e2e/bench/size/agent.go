package size

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/nodestate"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// gossip is what all agents hold of each other: they agree at once.
type gossip struct {
	mu      sync.Mutex
	members []announcer.Member // replaced, never changed
	agents  []*agent
}

func newGossip(nodes int) *gossip {
	g := &gossip{}
	for i := range nodes {
		g.members = append(g.members, announcer.Member{
			Node: nodeName(i), Since: time.Now(), Candidate: true,
			Report: &announcer.Report{Electable: snapshot.Electable{Node: nodeName(i), InSync: true, Links: links(i)}, Settled: true, LongSettled: true},
		})
	}
	return g
}

func (g *gossip) view(self string) announcer.View {
	g.mu.Lock()
	defer g.mu.Unlock()
	return announcer.View{Node: self, Members: g.members}
}

// judge changes the verdict on a node, and tells every agent that runs.
func (g *gossip) judge(i int, verdict announcer.Verdict) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.members = slices.Clone(g.members)
	m := &g.members[i]
	m.Verdict, m.Since = verdict, time.Now()
	m.Candidate, m.Quarantine = verdict != announcer.NodeGone, verdict == announcer.NodeGone
	for _, a := range g.agents {
		a.loop.Wake()
	}
}

// agent is what an agent does with the API: it follows the cluster, decides, and writes
// its NodeState. Its node's kernel holds at once what it is to hold.
type agent struct {
	name    string
	version string
	links   []snapshot.Link
	gossip  *gossip
	store   *kube.Store
	loop    *reconcile.Loop
	writer  nodestate.Writer
	decider node.Decider
	last    *snapshot.Snapshot
	held    []announcer.Claim

	stop func() // waits for its end
}

// newAgent makes the agent of node i. It speaks with the API server over a connection of
// its own, as on a node of its own.
func newAgent(i int, cfg *rest.Config, g *gossip, log *slog.Logger, wrap ...func(http.RoundTripper) http.RoundTripper) (*agent, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.Dial = (&net.Dialer{}).DialContext // another function is another connection
	for _, w := range wrap {
		cfg.Wrap(w)
	}
	clients, err := kube.FromConfig(cfg)
	if err != nil {
		return nil, err
	}
	a := &agent{name: nodeName(i), version: "v0", links: links(i), gossip: g, loop: reconcile.New("agent", log)}
	a.loop.Resync, a.loop.Coalesce = 10*time.Second, 200*time.Millisecond
	a.store = kube.NewStore(clients, a.loop.Wake)
	a.store.WithoutNodeStates, a.store.Roster = true, namespace
	a.writer = nodestate.Writer{Client: clients.NodeStates, Node: a.name}
	return a, nil
}

// start makes it run until stop.
func (a *agent) start(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { _ = a.store.Run(ctx) })
	work.Go(func() { a.loop.Run(ctx, a.step) })
	a.stop = func() {
		cancel()
		work.Wait()
	}
}

func (a *agent) step(ctx context.Context) error {
	s, now := a.store.Snapshot(), time.Now()
	if s == nil {
		return nil
	}
	view := a.gossip.view(a.name)
	plan := a.decider.Decide(node.Inputs{
		Now: now, Node: a.name, Snapshot: s, Changes: snapshot.Diff(a.last, s), Links: a.links, Self: s.Node(a.name),
		Engine: node.Engine{Known: true, InSync: true, Other: true}, Held: a.held, View: view, Sure: true,
	})
	a.last, a.held = s, plan.Announce.Layer2.Claims
	known := nodestate.Known{View: view, State: plan.State, Held: a.held, Links: a.links, InSync: true, Services: len(s.Services)}
	for _, svc := range s.Services {
		known.Endpoints += len(svc.Endpoints)
	}
	st := known.Describe(now)
	st.Version = a.version
	again, err := a.writer.Write(ctx, st, nil, nodestate.Speakers(view, now))
	a.loop.At(again)
	a.loop.At(plan.Wake)
	return err
}

func nodeName(i int) string { return fmt.Sprintf("node-%04d", i) }

// links are those of node i: in one network of 198.18.0.0/16.
func links(i int) []snapshot.Link {
	addr := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
	return []snapshot.Link{{Name: "eth0", Index: 2, MAC: fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255), Prefixes: []netip.Prefix{netip.PrefixFrom(addr, 16)}}}
}
