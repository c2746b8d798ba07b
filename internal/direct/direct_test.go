package direct

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/storytest"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/director"
)

// cluster is three nodes; n1 plans.
type cluster struct {
	world   *storytest.World
	view    announcer.View
	planner Planner
	table   *proxy.Table
	now     time.Duration
	left    Left
	alone   bool
	ways    map[netip.Addr]Way
	asking  bool
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{world: storytest.NewWorld(), now: time.Hour, view: announcer.View{Node: "n1"}}
	for i := 1; i <= 3; i++ {
		c.tell(t, fmt.Sprintf("node n%d ips=198.18.0.%d,fd98::%d pods=10.1.%d.0/24", i, i, i, i))
		links := []snapshot.Link{
			{Name: "docker0", Index: 2, MAC: fmt.Sprintf("02:00:00:00:01:%02x", i), Prefixes: []netip.Prefix{netip.MustParsePrefix("172.17.0.1/16")}},
			{Name: "eth0", Index: 10 + i, MAC: fmt.Sprintf("02:00:00:00:00:%02x", i), Prefixes: []netip.Prefix{
				netip.MustParsePrefix(fmt.Sprintf("198.18.0.%d/24", i)), netip.MustParsePrefix(fmt.Sprintf("fd98::%d/64", i)),
			}},
		}
		c.view.Members = append(c.view.Members, announcer.Member{Node: fmt.Sprintf("n%d", i), Report: &announcer.Report{Electable: snapshot.Electable{
			Node: fmt.Sprintf("n%d", i), InSync: true, Links: links,
			Director: &snapshot.DirectorState{Able: true, Links: snapshot.DirectorLinks(links, []string{"eth0"})},
		}}})
	}
	c.tell(t, `pool lan 203.0.113.0/24
address 203.0.113.80 holder=default/web
service default/web type=LoadBalancer ip=10.96.0.1 ports=tcp/80 forwarding=Direct
endpoint default/web 10.1.2.1:8080 node=n2
endpoint default/web 10.1.3.1:8080 node=n3`)
	return c
}

func (c *cluster) tell(t *testing.T, text string) {
	t.Helper()
	if err := c.world.Do(text); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) member(name string) *announcer.Member { return c.view.Member(name) }

// plan plans a second later.
func (c *cluster) plan(t *testing.T) *director.State {
	t.Helper()
	s, err := c.world.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	c.now += time.Second
	opt := proxy.Options{Quarantined: c.view.Quarantined(), Direct: c.planner.Services(c.planner.Wanted(s), c.table)}
	c.table = proxy.Compile(s, "n1", nil, opt)
	return c.planner.Plan(Inputs{
		Now: c.now, Node: "n1", Snapshot: s, Links: c.view.Members[0].Report.Links, View: c.view, Table: c.table, Left: c.left, Alone: c.alone, Ways: c.ways, Asking: c.asking,
	})
}

// key is the Frontend's of the VIP.
var key = proxy.Key{Kind: proxy.VIP, Family: snapshot.IPv4, Addr: netip.MustParseAddr("203.0.113.80"), Protocol: snapshot.TCP, Port: 80}

// modes says how Frontends are treated, in a word each.
func modes(st *director.State) string {
	if st == nil {
		return "waits"
	}
	var out []string
	for _, f := range st.Frontends {
		out = append(out, [...]string{"direct", "on", "off"}[f.Grace])
	}
	return strings.Join(out, " ")
}

// A Frontend has a grace after each change, which ends when conntrack shows nothing that is
// left of before. While nodes with endpoints are apart, it does not end.
func TestModes(t *testing.T) {
	owned := map[proxy.Key]bool{key: true}
	listed := func(owned, kept map[proxy.Key]bool) func(*testing.T, *cluster) {
		return func(_ *testing.T, c *cluster) {
			c.left = Left{Began: c.now + time.Millisecond, Owned: owned, Kept: kept}
		}
	}
	says := func(text string) func(*testing.T, *cluster) {
		return func(t *testing.T, c *cluster) { c.tell(t, text) }
	}
	later := func(d time.Duration) func(*testing.T, *cluster) { return func(_ *testing.T, c *cluster) { c.now += d } }
	able := func(node string, able bool) func(*testing.T, *cluster) {
		return func(_ *testing.T, c *cluster) { c.member(node).Report.Director.Able = able }
	}
	type step struct {
		do   func(*testing.T, *cluster)
		want string
	}
	for name, steps := range map[string][]step{
		"on": {{nil, "on"}, {nil, "on"}, {listed(owned, nil), "on"}, {listed(nil, nil), "direct"}, {listed(owned, nil), "direct"}},
		"off and on": {
			{nil, "on"}, {listed(nil, nil), "direct"}, {says("service default/web forwarding=Masquerade"), "off"}, {listed(nil, nil), "off"},
			{says("service default/web forwarding=Direct"), "on"}, {nil, "on"}, {listed(nil, nil), "direct"},
		},
		"off for good": {
			{nil, "on"}, {says("service default/web forwarding=Masquerade"), "off"}, {later(OffFor), "off"}, {listed(nil, owned), "off"}, {listed(nil, nil), ""}, {nil, ""},
		},
		"policy Local": {{nil, "on"}, {says("service default/web external=Local"), "off"}},
		"deleted":      {{nil, "on"}, {says("delete endpoint default/web 10.1.2.1:8080\ndelete endpoint default/web 10.1.3.1:8080\ndelete service default/web"), ""}},
		"a node that cannot": {
			{able("n3", false), "on"}, {listed(nil, nil), "on"}, {able("n3", true), "on"}, {listed(nil, nil), "direct"}, {able("n3", false), "on"},
			{listed(nil, nil), "on"}, {says("delete endpoint default/web 10.1.3.1:8080"), "on"}, {listed(nil, nil), "direct"},
		},
		"an endpoint of no node": {{says("endpoint default/web 192.0.2.9:8080"), "on"}, {listed(nil, nil), "on"}},
		"no endpoint":            {{says("delete endpoint default/web 10.1.2.1:8080\ndelete endpoint default/web 10.1.3.1:8080"), "on"}},
		"another protocol":       {{says("service default/web ports=sctp/80"), ""}},
		"a node that has not spoken yet": {{func(_ *testing.T, c *cluster) {
			c.planner.Adopt([]director.Frontend{{VIP: netip.AddrPortFrom(key.Addr, 80), Proto: 6}}, c.now)
			c.member("n3").Report.Director = nil
		}, "waits"}, {later(MeetFor), "on"}},
		"a way is not known":           {{func(_ *testing.T, c *cluster) { c.asking = true }, "waits"}, {later(MeetFor), "on"}},
		"a way is known in a moment":   {{func(_ *testing.T, c *cluster) { c.asking = true }, "waits"}, {func(_ *testing.T, c *cluster) { c.asking = false }, "on"}},
		"a node of an earlier version": {{func(_ *testing.T, c *cluster) { c.member("n3").Report.Director = nil }, "waits"}, {later(MeetFor), "on"}},
		"a node whose agent starts": {
			{nil, "on"}, {listed(nil, nil), "direct"}, {func(_ *testing.T, c *cluster) { c.member("n3").Report.Director = nil }, "direct"},
			{func(_ *testing.T, c *cluster) { c.member("n3").Report = nil }, "on"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			for i, s := range steps {
				if s.do != nil {
					s.do(t, c)
				}
				if got := modes(c.plan(t)); got != s.want {
					t.Fatalf("step %d: %q, want %q", i+1, got, s.want)
				}
			}
		})
	}
}

// A node is reached by the link that both are in the network of, by each family. One that
// is gone has no slots. For a while it is asked last, and nobody is told that a connection
// is nobody's.
func TestNodes(t *testing.T) {
	c := newCluster(t)
	c.member("n3").Report.Links[1].Prefixes = []netip.Prefix{netip.MustParsePrefix("198.18.9.3/24"), netip.MustParsePrefix("fd98::3/64")}
	st := c.plan(t)
	const want = "[{n1 198.18.0.1 fd98::1 [02:00:00:00:01:01 02:00:00:00:00:01] 0 0 {0 invalid IP invalid IP} []} {n2 198.18.0.2 fd98::2 [02:00:00:00:01:02 02:00:00:00:00:02] 11 0 {0 invalid IP invalid IP} []} {n3 invalid IP fd98::3 [02:00:00:00:01:03 02:00:00:00:00:03] 11 2 {0 invalid IP invalid IP} []}]"
	if got := fmt.Sprint(st.Nodes); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	c = newCluster(t)
	c.plan(t)
	c.member("n3").Verdict, c.member("n3").Quarantine = announcer.NodeGone, true
	c.away(t)
	c.member("n3").Verdict, c.member("n3").Quarantine = announcer.Alive, false
	if st = c.plan(t); len(st.Nodes) != 3 || st.Nodes[2].Part != director.Takes {
		t.Errorf("it is back: %v", st.Nodes)
	}
	c.tell(t, "delete endpoint default/web 10.1.3.1:8080")
	c.view.Members = c.view.Members[:2]
	c.away(t)
	c.view.Members = c.view.Members[1:]
	if st = c.plan(t); st != nil {
		t.Errorf("this node is not known yet: %v", st)
	}
}

// A link that an agent leaves out of its report, as it does for a minute after the link
// failed, takes what is passed on as long as the node's director has it. So the node is asked
// as soon as it is back. A link that its director does not have takes nothing.
func TestUnlistedLink(t *testing.T) {
	c := newCluster(t)
	want := fmt.Sprint(c.plan(t).Nodes[2])
	report := c.member("n3").Report
	docker, eth0 := report.Links[:1], report.Links[1:]
	for _, links := range [][]snapshot.Link{docker, nil} {
		report.Links = links
		if links == nil {
			want = strings.Replace(want, "02:00:00:00:01:03 ", "", 1) // the director does not have this one
		}
		if got := fmt.Sprint(c.plan(t).Nodes[2]); got != want {
			t.Errorf("with %d other links:\ngot  %s\nwant %s", len(links), got, want)
		}
	}
	for _, m := range []string{"n2", "n3"} {
		c.member(m).Report.Links = nil
	}
	ours := c.member("n1").Report.Links
	if got := Links(ours, "n1", c.view); len(got) != 1 || got[0].Name != "eth0" {
		t.Errorf("links that lead to others: %v", got)
	}
	if got := Peers(ours, "n1", c.view); len(got) != 2 || got[1].IPv4 != eth0[0].Prefixes[0].Addr() {
		t.Errorf("peers: %v", got)
	}
	report.Director.Links = nil
	if n := c.plan(t).Nodes[2]; n.Part != director.Apart {
		t.Errorf("its director has no link: %+v", n)
	}
	report.Links, report.Director.Links = docker, []snapshot.DirectorLink{{Name: "eth1", MAC: "02:00:00:00:02:03", Addrs: []netip.Addr{netip.MustParseAddr("fe80::3"), netip.MustParseAddr("192.0.2.3")}}}
	if n := c.plan(t).Nodes[2]; n.Part != director.Apart {
		t.Errorf("its link is in another network: %+v", n)
	}
}

// away wants n3 to have gone just now.
func (c *cluster) away(t *testing.T) {
	t.Helper()
	for _, hold := range []time.Duration{GoneFor, GoneFor - time.Second} {
		st := c.plan(t)
		if st.Hold != hold || len(st.Nodes) != 3 || st.Nodes[2].Part != director.AskedLast || modes(st) != "on" {
			t.Errorf("a node is gone: hold %v, nodes %v, %s", st.Hold, st.Nodes, modes(st))
		}
		if first, _ := primaries(st, st.Frontends[0].Slots); first["n3"] != 0 {
			t.Errorf("it has slots: %v", first)
		}
	}
	c.now += GoneFor
	if st := c.plan(t); st.Hold > 0 || len(st.Nodes) != 2 {
		t.Errorf("it is gone for long: hold %v, nodes %v", st.Hold, st.Nodes)
	}
}

// A node that the network does not let pass packets on has all others apart.
func TestAlone(t *testing.T) {
	c := newCluster(t)
	c.alone = true
	for _, n := range c.plan(t).Nodes {
		if n.Part != director.Apart && n.Name != "n1" {
			t.Errorf("%+v", n)
		}
	}
}

// What has a slot of nodes that take no part is for their endpoints alone, so that each node has
// its part. A client that stays with its endpoint keeps the one that it has.
func TestEndpointsApart(t *testing.T) {
	c := newCluster(t)
	c.tell(t, "endpoint default/web 10.1.3.2:8080 node=n3")
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, "[]"},
		{func() { c.member("n3").Report.Director.Able = false }, "[10.1.3.1:8080 10.1.3.2:8080]"},
		{func() { c.tell(t, "endpoint default/web 10.1.9.1:8080") }, "[10.1.9.1:8080 10.1.3.1:8080 10.1.3.2:8080]"},
		{func() { c.tell(t, "service default/web affinity=60s") }, "[]"},
	} {
		step.do()
		if got := fmt.Sprint(c.plan(t).Frontends[0].Apart); got != step.want {
			t.Errorf("%s, not %s", got, step.want)
		}
	}
}

// Peers are asked by the links that this node shares with them.
func TestPeers(t *testing.T) {
	c := newCluster(t)
	var got []string
	for _, p := range Peers(c.view.Members[0].Report.Links, "n1", c.view) {
		got = append(got, fmt.Sprint(p))
	}
	want := []string{"{11 02:00:00:00:00:02 198.18.0.2 fd98::2}", "{11 02:00:00:00:00:03 198.18.0.3 fd98::3}"}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

// primaries are how many slots each node has, and seconds those that remember somebody.
func primaries(st *director.State, s *director.Slots) (first, second map[string]int) {
	first, second = map[string]int{}, map[string]int{}
	for i := 0; i < len(s.Chains); i += director.Places {
		first[st.Nodes[s.Chains[i]].Name]++
		second[st.Nodes[s.Chains[i+1]].Name]++
	}
	return first, second
}

// Slots go to nodes by their endpoints, and the node that had one before is asked next.
// What a node whose engine is behind has does not count, unless nobody else has any.
func TestSlots(t *testing.T) {
	c := newCluster(t)
	c.tell(t, "address 203.0.113.81 holder=default/dns\nservice default/dns type=LoadBalancer ip=10.96.0.2 ports=udp/53 forwarding=Direct\n"+
		"endpoint default/dns 10.1.2.1:53 node=n2 proto=udp\nendpoint default/dns 10.1.3.1:53 node=n3 proto=udp\n"+
		"address 203.0.113.82 holder=default/more\nservice default/more type=LoadBalancer ip=10.96.0.3 ports=tcp/80 forwarding=Direct\n"+
		"endpoint default/more 10.1.2.1:8080 node=n2\nendpoint default/more 10.1.3.1:8080 node=n3")
	st := c.plan(t)
	if len(st.Frontends) != 3 || st.Frontends[0].Slots != st.Frontends[2].Slots {
		t.Fatalf("Frontends with the same endpoints do not share: %v", st.Frontends)
	}
	first, _ := primaries(st, st.Frontends[0].Slots)
	if len(first) != 2 || first["n2"] < 100 || first["n3"] < 100 {
		t.Errorf("primaries %v", first)
	}
	was := st.Frontends[0].Slots
	if again := c.plan(t).Frontends[0].Slots; again != was {
		t.Error("slots are made again")
	}
	had := first["n3"]
	for _, name := range []string{"web", "dns", "more"} {
		at := map[string]string{"web": "10.1.3.1:8080", "dns": "10.1.3.1:53", "more": "10.1.3.1:8080"}[name]
		c.tell(t, "delete endpoint default/"+name+" "+at)
	}
	st = c.plan(t)
	first, second := primaries(st, st.Frontends[0].Slots)
	if first["n3"] != 0 || second["n3"] < had {
		t.Errorf("primaries %v, then %v", first, second)
	}
	if st.Frontends[0].Slots.Changed != nil || st.Frontends[0].Slots != st.Frontends[2].Slots {
		t.Error("TCP has no use for times, which keep Frontends from sharing")
	}
	changes := 0
	for _, at := range st.Frontends[1].Slots.Changed {
		if at != 0 {
			changes++
		}
	}
	if changes != had {
		t.Errorf("%d slots changed, not %d", changes, had)
	}
	c.now += changedFor
	if st = c.plan(t); st.Frontends[1].Slots.Changed != nil {
		t.Error("a change of long ago")
	}
	c.member("n2").Report.InSync = false
	if first, _ = primaries(st, c.plan(t).Frontends[0].Slots); first["n2"] == 0 {
		t.Errorf("the only node with endpoints has no slot: %v", first)
	}
	c.tell(t, "endpoint default/web 10.1.3.1:8080 node=n3")
	if first, _ = primaries(st, c.plan(t).Frontends[0].Slots); first["n2"] != 0 {
		t.Errorf("a node whose engine is behind has slots: %v", first)
	}
}

// The seed is the cluster's: it needs the namespace that every cluster has.
func TestSeed(t *testing.T) {
	s := &snapshot.Snapshot{}
	if _, ok := Seed(s); ok {
		t.Error("a seed of nothing")
	}
	s.Namespaces = []*snapshot.Namespace{{Name: "kube-system"}}
	if _, ok := Seed(s); ok {
		t.Error("a seed without a UID")
	}
	s.Namespaces[0].UID = "1f2e"
	a, ok := Seed(s)
	s.Namespaces[0].UID = "1f2f"
	if b, _ := Seed(s); !ok || a == b {
		t.Errorf("seeds %x and %x", a, b)
	}
}

// The program is attached where another node is in the same network.
func TestLinks(t *testing.T) {
	c := newCluster(t)
	links := Links(c.view.Members[0].Report.Links, "n1", c.view)
	if names := slices.Collect(func(yield func(string) bool) {
		for _, l := range links {
			yield(l.Name)
		}
	}); !slices.Equal(names, []string{"eth0"}) {
		t.Errorf("links %v", names)
	}
}
