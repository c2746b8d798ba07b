package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/direct"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/storytest"
	"github.com/fairlead/fairlead/internal/traffic"
	"github.com/fairlead/fairlead/nodeport/health"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/dataplanetest"
	"github.com/fairlead/fairlead/proxy/director"
	"github.com/fairlead/fairlead/proxy/director/program"
)

// directorBook stands in for the program, and notes what is done.
type directorBook struct {
	lines  []string
	held   []director.Frontend
	before error // Sync fails before nftables
	after  error // and after it

	without string
}

func (b *directorBook) Sync(s *director.State, nftables func() error) error {
	if b.before != nil {
		return b.before
	}
	b.lines = append(b.lines, "goes")
	if err := nftables(); err != nil {
		return err
	}
	if b.after != nil {
		return b.after
	}
	b.held = s.Frontends
	b.lines = append(b.lines, fmt.Sprintf("comes %d", len(s.Frontends)))
	return nil
}

func (b *directorBook) Attach(links []int) error {
	b.lines = append(b.lines, fmt.Sprintf("attach %v", links))
	return nil
}

func (b *directorBook) Held() ([]director.Frontend, error) { return b.held, nil }
func (b *directorBook) Counters(*director.State) (*program.Counters, error) {
	return &program.Counters{Served: 7}, nil
}
func (b *directorBook) Without() string { return b.without }
func (b *directorBook) Close()          { b.lines = append(b.lines, "close") }

// directorDesk is an engine with a directorBook, in a cluster of two nodes.
type directorDesk struct {
	book   *directorBook
	engine *engine
	world  *storytest.World
	pinned bool
	opens  error
}

func newDirectorDesk(t *testing.T) *directorDesk {
	t.Helper()
	d := &directorDesk{book: &directorBook{}, world: storytest.NewWorld()}
	cfg := &Config{Node: "a", Log: slog.New(slog.DiscardHandler), Dataplane: dataplanetest.NewFake(), Direct: Direct{
		Open:   func(director.Seed) (Director, error) { return d.book, d.opens },
		Pinned: func() bool { return d.pinned },
		Remove: func() (int, error) {
			d.book.lines, d.pinned = append(d.book.lines, "remove"), false
			return 1, nil
		},
	}}
	d.engine = newEngine(cfg, newMetrics(nil), &health.Proxy{}, func() {})
	d.engine.proxy = Fairlead
	d.engine.follow = func(*snapshot.Snapshot, []netip.Addr, []netip.Addr) {}
	d.engine.director.flows = func(func(traffic.Flow)) error { return nil }
	d.tell(t, `namespace kube-system
node a ips=198.18.0.1
node b ips=198.18.0.2
pool lan 203.0.113.0/24
address 203.0.113.80 holder=default/web
service default/web type=LoadBalancer ip=10.96.0.1 ports=tcp/80
endpoint default/web 10.1.1.1:8080 node=a`)
	return d
}

func (d *directorDesk) tell(t *testing.T, text string) {
	t.Helper()
	if err := d.world.Do(text); err != nil {
		t.Fatal(err)
	}
}

// program programs, and returns what was done and what the node says of itself.
func (d *directorDesk) program(t *testing.T, uid string) string {
	t.Helper()
	s, err := d.world.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	s.Namespace("kube-system").UID = uid
	link := func(i int) snapshot.Link {
		return snapshot.Link{Name: "eth0", Index: i, MAC: fmt.Sprintf("02:00:00:00:00:%02x", i), Prefixes: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("198.18.0.%d/24", i))}}
	}
	view := announcer.View{Node: "a", Members: []announcer.Member{
		{Node: "a", Report: &announcer.Report{Electable: snapshot.Electable{Node: "a", InSync: true, Links: []snapshot.Link{link(1)}}}},
		{Node: "b", Report: &announcer.Report{Electable: snapshot.Electable{Node: "b", InSync: true, Links: []snapshot.Link{link(2)}, Director: &snapshot.DirectorState{Why: notAsked}}}},
	}}
	d.book.lines = nil
	err = d.engine.program(t.Context(), engineOrder{Program: node.Program{Snapshot: s, Links: view.Members[0].Report.Links, View: view, Sure: true}})
	if err != nil {
		d.book.lines = append(d.book.lines, err.Error())
	}
	st := d.engine.director.Status()
	if st == nil {
		return strings.Join(append(d.book.lines, "not known"), ", ")
	}
	if st.Able {
		return strings.Join(append(d.book.lines, "able"), ", ")
	}
	return strings.Join(append(d.book.lines, st.Why), ", ")
}

// The program knows first what goes and last what comes, and nftables is written in
// between: also if the program cannot be. It is loaded when a Service asks for it, and
// taken out when nothing is left of what it did.
func TestDirecting(t *testing.T) {
	d := newDirectorDesk(t)
	want := func(what, uid, want string) {
		t.Helper()
		if got := d.program(t, uid); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	synced := func(what string, want bool) {
		t.Helper()
		table := d.engine.cfg.Dataplane.(*dataplanetest.Fake).Table()
		if got := slices.ContainsFunc(table.Frontends, func(f *proxy.Frontend) bool { return f.Directed }); got != want {
			t.Errorf("%s: nftables knows: %t", what, got)
		}
	}
	want("nobody asks", "1f2e", notAsked)
	d.tell(t, "service default/web forwarding=Direct")
	want("the cluster is not known", "", noIdentity)
	synced("the guards hold on a node that cannot", true)
	want("it is asked for", "1f2e", "goes, comes 1, attach [1], able")
	d.book.without = "nftables looks for connections"
	want("again", "1f2e", "goes, comes 1, able")
	if c := d.engine.director.Counts(); c.State.Why != d.book.without || !c.AsksNftables {
		t.Errorf("what it does without: %+v", c)
	}
	d.book.without = ""
	want("with all of it", "1f2e", "goes, comes 1, able")
	if c := d.engine.director.Counts(); !c.State.Able || c.Counters.Served != 7 || len(c.Weights) != 1 || c.Weights["a"] != 1 {
		t.Errorf("counts: %+v", c)
	}
	d.engine.director.use.Lock()
	if c := d.engine.director.Counts(); c.Counters.Served != 7 {
		t.Errorf("counts while the engine works: %+v", c)
	}
	d.engine.director.use.Unlock()

	d.book.before = errors.New("no room")
	want("the maps cannot be written", "1f2e", "close, no room")
	want("it rests", "1f2e", "no room")
	d.book.before, d.engine.director.rests = nil, time.Time{}
	want("it works again, with the maps that it has", "1f2e", "attach [1], goes, comes 1, able")
	d.book.after = errors.New("no memory")
	want("what comes cannot be written", "1f2e", "goes, close, no memory")
	d.book.after, d.engine.director.rests = nil, time.Time{}
	d.opens = errors.New("no BTF")
	want("it cannot be loaded", "1f2e", "no BTF")
	d.opens, d.engine.director.rests = nil, time.Time{}
	want("it works once more", "1f2e", "attach [1], goes, comes 1, able")

	d.tell(t, "service default/web forwarding=Masquerade")
	want("it is not asked for any more", "1f2e", "goes, comes 1, able")
	synced("connections go on", true)
	d.tell(t, "delete endpoint default/web 10.1.1.1:8080\ndelete service default/web")
	want("nothing is left", "1f2e", "goes, comes 0, close, remove, "+notAsked)
	d.pinned, d.book.held = true, nil
	want("an earlier agent left something", "1f2e", "goes, comes 0, close, remove, "+notAsked)
	d.tell(t, "service default/web type=LoadBalancer ip=10.96.0.1 ports=tcp/80 forwarding=Direct")
	d.engine.director.Open = nil
	want("the agent may not", "1f2e", notInstalled)
}

// network stands in for what asks other nodes.
type network struct {
	why    string
	known  bool
	closed int
}

func (n *network) Set(_ []snapshot.Link, peers []direct.Peer, vips []netip.Addr) error {
	if len(peers) != 1 || len(vips) != 1 {
		return fmt.Errorf("peers %v, VIPs %v", peers, vips)
	}
	return nil
}

func (n *network) Verdict() (string, bool) { return n.why, n.known }
func (n *network) Close()                  { n.closed++ }

// A node says that it is able once the network is known to let its packets through.
func TestDirectingAsksTheNetwork(t *testing.T) {
	d, n := newDirectorDesk(t), &network{}
	d.engine.director.Echo = func(func()) Echo { return n }
	d.tell(t, "service default/web forwarding=Direct")
	for _, step := range []struct {
		why   string
		known bool
		want  string
	}{
		{"", false, "goes, comes 1, attach [1], not known"},
		{"", true, "goes, comes 1, able"},
		{"it drops", true, "goes, comes 1, it drops"},
		{"", true, "goes, comes 1, able"},
	} {
		n.why, n.known = step.why, step.known
		if got := d.program(t, "1f2e"); got != step.want {
			t.Errorf("%+v: %s", step, got)
		}
	}
	d.book.after = errors.New("no memory")
	if d.program(t, "1f2e"); n.closed != 1 {
		t.Errorf("it was closed %d times", n.closed)
	}
}
