package node

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// changes are lines that change a cluster of two nodes. Names are few, so that
// they meet.
var changes = []string{
	"endpoint default/web 10.1.1.5:80 node=a", "endpoint default/web 10.1.1.5:80 unready unserving", "endpoint default/web 10.1.2.5:80 node=b", "endpoint default/two 10.1.2.6:80 node=b",
	"service default/web external=Local", "service default/web external=", "service default/web labels=x=y", "service default/two type=LoadBalancer", "service default/two type=ClusterIP",
	"address 198.51.100.10 holder=default/web", "address 198.51.100.11 holder=default/two", "address 198.51.100.12 holder=default/web,default/two", "address 198.51.100.10 conflict=02:00:00:00:00:01",
	"address 198.51.100.10 conflict=", "address 198.51.100.10 created=7", "address 198.51.100.11 holder=default/two created=9", "address 198.51.100.11 deleting", "delete address 198.51.100.12", "address 192.0.2.10 holder=default/web pool=routed",
	"node a unschedulable", "node a unschedulable=false", "node b notready", "node b notready=false", "node b labels=site=y", "agent b draining", "agent b draining=false", "agent b outofsync", "agent b outofsync=false",
	"agent a links=eth0:198.51.100.1/24,eth1:203.0.113.1/24", "agent a links=eth0:198.51.100.1/24",
	"announcement all failback=Never", "announcement all failback=", "announcement all rebalance=1", "announcement all rebalance=2", "announcement all drainon=Cordon", "announcement routed drainon=Cordon",
	"agent b stays=198.51.100.10", "agent b stays=198.51.100.11,198.51.100.12", "agent b stays=", "agent b v01", "agent b v01=false", "agent b drains=Cordon", "agent b drains=Shutdown", "agent b drains=", "node a shutsdown", "node a shutsdown=false",
	"announcement all interfaces=eth0", "announcement all prefer=site=y:1", "announcement all service=x=y", "announcement routed pool=by=bgp bgp", "bgppeer tor 198.51.100.254 as=64501/64500",
}

// TestMemoryDoesNotShow: a Decider decides what Decide does, whatever changes from
// one step to the next and however long it takes.
func TestMemoryDoesNotShow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		do := func(text string) { _ = w.Do(text) } // what is not there cannot be deleted
		do("node a ips=198.51.100.1 labels=site=x\nnode b ips=198.51.100.2\nagent a links=eth0:198.51.100.1/24\nagent b links=eth0:198.51.100.2/24")
		do("pool routed 192.0.2.0/24 labels=by=bgp\nservice default/web\nservice default/two\nendpoint default/web 10.1.1.5:80 node=a\naddress 198.51.100.10 holder=default/web")
		c := &chance{t: t, world: w, ready: map[string]map[netip.Addr]bool{}}
		var memory Memory
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			do(changes[c.n(len(changes))])
			in := c.inputs()
			fast := w.decider.Decide(in)
			var want Plan
			want, memory = Decide(in, memory)
			if !reflect.DeepEqual(fast, want) {
				t.Fatalf("with a memory:\n%s%+v %+v\nwant\n%s%+v %+v", fast.Text(in.Now), fast.State, fast.Announce.Layer2, want.Text(in.Now), want.State, want.Announce.Layer2)
			}
			c.follow(want)
		}
	})
}

// chance draws what no line of a cluster says.
type chance struct {
	t     *rapid.T
	world *world
	last  *snapshot.Snapshot
	ready map[string]map[netip.Addr]bool
	held  []announcer.Claim
	now   time.Duration
}

func (c *chance) n(limit int) int { return rapid.IntRange(0, limit-1).Draw(c.t, "n") }

// inputs shares with the last ones what did not change, as a Builder does.
func (c *chance) inputs() Inputs {
	s, err := c.world.Snapshot()
	if err != nil {
		c.t.Fatal(err)
	}
	was := c.last
	if was != nil {
		s = shared(was, s)
	}
	c.last = s
	c.now += []time.Duration{0, time.Second, 150 * time.Millisecond, 31 * time.Second}[c.n(4)]
	in := Inputs{
		Now: start.Add(c.now), Node: "a", Snapshot: s, Held: c.held, Sure: c.n(8) > 0, Removed: c.n(20) == 0,
		Engine: Engine{Known: c.n(10) > 0, InSync: c.n(5) > 0, Other: c.n(8) == 0}, Links: s.NodeState("a").Links,
	}
	if c.n(2) == 0 {
		in.Changes = snapshot.Diff(was, s)
	}
	if in.Engine.Known {
		in.Engine.Ready = c.holds(s)
	}
	in.View = announcer.View{Node: "a", Returns: uint64(c.now / time.Minute)}
	for _, node := range []string{"a", "b"} {
		m := announcer.Member{Node: node, Since: start.Add(c.now - time.Duration(c.n(3))*20*time.Second), Candidate: c.n(4) > 0, Stale: c.n(6) == 0}
		m.Report = &announcer.Report{Electable: s.NodeState(node).Electable, Settled: m.Candidate, Knows: announcer.KnowledgeOf(s.Addresses[:c.n(len(s.Addresses)+1)])}
		if node == "b" {
			m.Verdict = announcer.Verdicts[c.n(len(announcer.Verdicts))]
			m.Quarantine = m.Verdict == announcer.NodeGone
		}
		in.View.Members = append(in.View.Members, m)
	}
	return in
}

// holds is what the engine holds: one map for the same VIPs, as an engine does that
// has nothing new to say.
func (c *chance) holds(s *snapshot.Snapshot) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, a := range s.Addresses {
		if c.n(6) > 0 {
			out[a.Addr] = true
		}
	}
	key := fmt.Sprint(slices.SortedFunc(maps.Keys(out), netip.Addr.Compare))
	if c.ready[key] == nil {
		c.ready[key] = out
	}
	return c.ready[key]
}

// follow has the kernel do what p says, or not all of it.
func (c *chance) follow(p Plan) {
	if set := p.Announce.Layer2; set != nil {
		held := slices.DeleteFunc(slices.Clone(set.Claims), func(announcer.Claim) bool { return c.n(5) == 0 })
		if !slices.Equal(held, c.held) { // else it is one list, as the kernel's holder returns
			c.held = held
		}
	}
}

// shared gives the values of now that did not change their old pointers, and lists
// where nothing changed their old array.
func shared(was, now *snapshot.Snapshot) *snapshot.Snapshot {
	out := *now
	out.Services, out.Nodes, out.Pools = kept(was.Services, now.Services), kept(was.Nodes, now.Nodes), kept(was.Pools, now.Pools)
	out.Addresses, out.Announcements = kept(was.Addresses, now.Addresses), kept(was.Announcements, now.Announcements)
	out.NodeStates, out.BGPPeers = kept(was.NodeStates, now.NodeStates), kept(was.BGPPeers, now.BGPPeers)
	return &out
}

func kept[T any](was, now []*T) []*T {
	out := slices.Clone(now)
	for i := range out {
		if at := slices.IndexFunc(was, func(v *T) bool { return reflect.DeepEqual(v, out[i]) }); at >= 0 {
			out[i] = was[at]
		}
	}
	if slices.Equal(was, out) {
		return was
	}
	return out
}
