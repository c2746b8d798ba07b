package members

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

func TestMain(m *testing.M) {
	if os.Getenv(runNode) != "" {
		nodeMain()
		return
	}
	goleak.VerifyTestMain(patient{m})
}

// patience is how long a test waits for what must come.
const patience = 2 * time.Minute

// measure adds what depends on the machine's speed: how soon a loss is known, how
// quiet an idle cluster is, whether busy cores raise a false alarm.
var measure = flag.Bool("measure", false, "measure times too, on an otherwise idle machine")

// patient lets exchanges end that were under way when the last member stopped:
// memberlist gives each a second to connect and another to answer.
type patient struct{ *testing.M }

func (p patient) Run() int {
	code := p.M.Run()
	for end := time.Now().Add(patience); goleak.Find() != nil && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	return code
}

var (
	key   = bytes.Repeat([]byte{1}, 32)
	other = bytes.Repeat([]byte{2}, 32)
)

// cluster is some members on one fabric.
type cluster struct {
	t     testing.TB
	f     *fabric
	mu    sync.Mutex
	nodes map[string]*node
	also  map[string]netip.AddrPort // nodes in the API that have no member
	known *Places                   // of so many nodes as knows says
	knows int
}

// node is one of them.
type node struct {
	*Members
	addr    netip.AddrPort
	changed atomic.Int64
	stop    func()
}

func newCluster(t testing.TB, names ...string) *cluster {
	c := &cluster{t: t, f: newFabric(), nodes: map[string]*node{}}
	for _, n := range names {
		c.start(n, nil)
	}
	return c
}

func (c *cluster) places() *Places {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.nodes) + len(c.also); c.known == nil || n != c.knows {
		c.known, c.knows = c.everyPlace(), n
	}
	return c.known
}

// everyPlace returns where all nodes are. A node never moves. c.mu is held.
func (c *cluster) everyPlace() *Places {
	out := map[string]netip.AddrPort{}
	maps.Copy(out, c.also)
	for name, n := range c.nodes {
		out[name] = n.addr
	}
	return NewPlaces(out)
}

// start runs a member of this name, and replaces an earlier one.
func (c *cluster) start(name string, change func(*Config)) *node {
	c.mu.Lock()
	n := &node{addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(2 + len(c.nodes)/250), byte(1 + len(c.nodes)%250)}), Port)}
	if was := c.nodes[name]; was != nil {
		n.addr = was.addr
	}
	c.nodes[name] = n
	c.mu.Unlock()
	quick := standard
	quick.pushPull, quick.seeds = 2*time.Second, 500*time.Millisecond
	cfg := Config{
		Node: name, Boot: "boot-of-" + name, Bind: n.addr, Keys: [][]byte{key}, Places: c.places, Changed: func() { n.changed.Add(1) },
		Log: slog.New(slog.DiscardHandler), transport: c.f.plug(n.addr), Prober: prober{c.f, n.addr}, tuning: quick,
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if n.Members, err = New(cfg); err != nil {
		c.t.Fatal(err)
	}
	n.Say(announcer.Report{Electable: snapshot.Electable{InSync: true, Links: links(name)}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	})
	c.t.Cleanup(n.stop)
	return n
}

func links(node string) []snapshot.Link {
	return []snapshot.Link{{Name: "eth-" + node, MAC: "02:00:00:00:00:01", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.5/24"), netip.MustParsePrefix("2001:db8::5/64")}}}
}

// says waits until the node's view of another begins with want: verdict, then
// candidate, quarantine.
func (n *node) says(t testing.TB, about, want string) time.Duration {
	t.Helper()
	began := time.Now()
	for time.Since(began) < patience {
		if strings.HasPrefix(n.line(about), want) {
			return time.Since(began)
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Fatalf("of %s %s says %q, not %q; all:\n%s", about, n.cfg.Node, n.line(about), want, n.View())
	return 0
}

// line is a view's line on a node, without name and address.
func (n *node) line(about string) string {
	for line := range strings.Lines(n.View().String()) {
		if f := strings.SplitN(strings.TrimSpace(line), " ", 3); f[0] == about && len(f) == 3 {
			return f[2]
		}
	}
	return ""
}

// together waits until all see all as candidates.
func (c *cluster) together(t testing.TB) {
	t.Helper()
	for _, n := range c.nodes {
		for about := range c.nodes {
			n.says(t, about, "alive candidate")
		}
	}
}

func TestReportsTravel(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	c.together(t)
	for _, n := range c.nodes {
		for about := range c.nodes {
			if got := fmt.Sprint(n.View().Member(about).Report.Links); got != fmt.Sprint(links(about)) {
				t.Errorf("%s has the links %s of %s", n.cfg.Node, got, about)
			}
		}
	}
	c.nodes["a"].Say(announcer.Report{Electable: snapshot.Electable{InSync: true, Draining: true}})
	took := c.nodes["b"].says(t, "a", "alive candidate says in-sync,draining")
	t.Logf("draining known after %s", took)
	many := make([]snapshot.Link, 100)
	for i := range many {
		many[i] = links(fmt.Sprint("a", i))[0]
	}
	c.nodes["a"].Say(announcer.Report{Electable: snapshot.Electable{InSync: true, Links: many}})
	c.nodes["b"].says(t, "a", "alive candidate says in-sync,settled eth-a0=")
	if !*measure {
		return
	}
	before := c.nodes["b"].changed.Load()
	time.Sleep(time.Second)
	if more := c.nodes["b"].changed.Load() - before; more > 0 {
		t.Errorf("nothing changed, but Changed was called %d times", more)
	}
}

// A report that gossip lost is asked for as soon as its node answers a ping.
func TestLostReportIsAskedFor(t *testing.T) {
	c := newCluster(t)
	for _, name := range []string{"a", "b"} {
		c.start(name, func(cfg *Config) { cfg.tuning.pushPull = time.Hour })
	}
	c.together(t)
	a := c.nodes["a"]
	a.mu.Lock()
	a.self.Draining = true
	a.self.Version++
	*a.view.Member("a").Report = a.self // so that it takes it for told
	a.mu.Unlock()
	t.Logf("known after %s", c.nodes["b"].says(t, "a", "alive candidate says in-sync,draining"))
}

// TestPowerLoss: two see that the third is gone.
func TestPowerLoss(t *testing.T) {
	var all []time.Duration
	runs := 1
	if *measure {
		runs = 5
	}
	for range runs {
		c := newCluster(t, "a", "b", "c")
		c.together(t)
		time.Sleep(300 * time.Millisecond)
		began := time.Now()
		c.f.power(c.nodes["c"].addr, false)
		for _, n := range []string{"a", "b"} {
			c.nodes[n].says(t, "c", "node-gone quarantine")
		}
		all = append(all, time.Since(began))
		if v := c.nodes["a"].View(); v.Guarded || !slices.Equal(v.Quarantined(), []string{"c"}) {
			t.Errorf("one of three is gone:\n%s", v)
		}
		if testutil.CollectAndCount(c.nodes["a"].metrics.detection) != 1 {
			t.Error("no detection was measured")
		}
		for _, n := range c.nodes {
			n.stop()
		}
	}
	slices.Sort(all)
	t.Logf("power loss known by all after %s", all)
	if *measure && all[len(all)-1] > 3*time.Second {
		t.Error("that is too long")
	}
}

// TestAgentGone: an agent that dies without a word, on a kernel that answers.
func TestAgentGone(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	c.together(t)
	p := c.f.ports[c.nodes["c"].addr]
	c.f.mu.Lock()
	c.f.ports[c.nodes["c"].addr] = &port{f: c.f, packets: nil, streams: nil, down: p.down} // swallows everything
	c.f.dead[p.addr] = false
	c.f.mu.Unlock()
	c.nodes["a"].says(t, "c", "agent-gone candidate says")
	c.f.power(c.nodes["c"].addr, false)
	took := c.nodes["a"].says(t, "c", "node-gone quarantine")
	t.Logf("a node that dies after its agent is gone after %s", took)
}

// TestRestart: an agent that stops says so, and its successor is what it was.
func TestRestart(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	c.together(t)
	c.nodes["c"].stop()
	c.nodes["a"].says(t, "c", "agent-gone candidate says in-sync,restarting,settled")
	before := c.nodes["a"].View().Returns
	n := c.start("c", nil)
	n.says(t, "c", "alive candidate says in-sync,settled")
	took := c.nodes["a"].says(t, "c", "alive candidate says in-sync,settled")
	t.Logf("a new agent is known after %s", took)
	if now := c.nodes["a"].View().Returns; now != before {
		t.Error("a restart is not a return of a lost node")
	}
}

// TestPartition: one of three is cut off. It quarantines nobody, both sides have
// candidates, and all come together again.
func TestPartition(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	c.together(t)
	c.f.side(c.nodes["c"].addr, 1)
	c.nodes["a"].says(t, "c", "node-gone quarantine")
	c.nodes["c"].says(t, "a", "node-gone says")
	c.nodes["c"].says(t, "b", "node-gone says")
	c.nodes["c"].says(t, "c", "alive candidate")
	if v := c.nodes["c"].View(); !v.Guarded || len(v.Quarantined()) > 0 {
		t.Errorf("who is cut off quarantines:\n%s", v)
	}
	c.f.side(c.nodes["c"].addr, 0)
	began := time.Now()
	c.together(t)
	t.Logf("together again after %s", time.Since(began))
	for _, n := range c.nodes {
		if n.View().Returns == 0 {
			t.Errorf("%s saw nobody return", n.cfg.Node)
		}
	}
}

func TestWrongKey(t *testing.T) {
	c := newCluster(t, "a", "b")
	c.together(t)
	n := c.start("c", func(cfg *Config) { cfg.Keys = [][]byte{other} })
	time.Sleep(2 * time.Second)
	if len(n.View().Members) != 1 || len(c.nodes["a"].View().Members) != 2 {
		t.Errorf("the wrong key was let in:\n%s-- a --\n%s", n.View(), c.nodes["a"].View())
	}
	refused := 0.0
	for _, n := range c.nodes {
		refused += testutil.ToFloat64(n.metrics.refused.WithLabelValues(refusedKey))
	}
	if refused == 0 {
		t.Error("no refusal was counted")
	}
}

func TestKeys(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("without a key")
	}
	if _, err := New(Config{Keys: [][]byte{{1, 2, 3}}}); err == nil {
		t.Error("with a short key")
	}
}

// TestRotation: add, use, remove, one member after the other; nobody is lost.
func TestRotation(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	c.together(t)
	for _, keys := range [][][]byte{{key, other}, {other, key}, {other}} {
		for _, name := range []string{"a", "b", "c"} {
			if err := c.nodes[name].SetKeys(keys); err != nil {
				t.Fatal(err)
			}
			c.together(t)
		}
	}
	if keys := c.nodes["a"].keys.GetKeys(); len(keys) != 1 || !bytes.Equal(keys[0], other) {
		t.Errorf("%d keys are left", len(keys))
	}
	c.start("d", func(cfg *Config) { cfg.Keys = [][]byte{other} })
	c.together(t)
}

// TestClash: a second agent of one name is not listened to, and that is said.
func TestClash(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	c.together(t)
	addr := c.nodes["c"].addr
	c.mu.Lock()
	c.nodes["c2"] = &node{addr: netip.MustParseAddrPort("192.0.2.99:7947")}
	c.mu.Unlock()
	n := c.start("c2", func(cfg *Config) { cfg.Node = "c" })
	defer n.stop()
	began := time.Now()
	for len(c.nodes["a"].View().Clashes) == 0 {
		if time.Since(began) > patience {
			t.Fatal("nobody said it")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if m := c.nodes["a"].View().Member("c"); m == nil || m.Addr != addr {
		t.Errorf("%v", m)
	}
	if testutil.ToFloat64(c.nodes["a"].metrics.clashes) == 0 {
		t.Error("it was not counted")
	}
}

// TestGarbage: what another agent sends is refused and counted, and does no harm.
func TestGarbage(t *testing.T) {
	c := newCluster(t, "a", "b")
	c.together(t)
	d := &delegate{c.nodes["a"].Members}
	d.NotifyMsg(nil)
	d.NotifyMsg([]byte{msgReport})
	d.NotifyMsg([]byte{'x', 1, 2})
	d.NotifyMsg(append([]byte{msgReport}, encode(announcer.Report{})...))
	d.MergeRemoteState([]byte{9, 9}, true)
	d.NotifyMsg(make([]byte, maxReport+1))
	m := c.nodes["a"].metrics
	if got := testutil.ToFloat64(m.refused.WithLabelValues(refusedGarbage)); got != 5 {
		t.Errorf("%v were refused as garbage", got)
	}
	if got := testutil.ToFloat64(m.refused.WithLabelValues(refusedSize)); got != 1 {
		t.Errorf("%v were refused for their size", got)
	}
	c.together(t)
}
