package agent

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/saved"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/storytest"
	"github.com/fairlead/fairlead/proxy/dataplanetest"
)

func speaks(node, mac string, verdict announcer.Verdict) announcer.Member {
	return announcer.Member{Node: node, Verdict: verdict, Report: &announcer.Report{Electable: snapshot.Electable{
		Node: node, Links: []snapshot.Link{{Name: "eth0", MAC: mac}, {Name: "tun0"}},
	}}}
}

func clusterOf(nodes ...string) *snapshot.Snapshot {
	s := &snapshot.Snapshot{}
	for _, n := range nodes {
		s.Nodes = append(s.Nodes, &snapshot.Node{Name: n})
	}
	return s
}

// The MACs of the nodes outlive their silence, and a restart of the agent while it hears
// nobody. Those of a node that left the cluster do not.
func TestNeighbours(t *testing.T) {
	dir := t.TempDir()
	woken := 0
	start := func(was *saved.State) *neighbours {
		n := &neighbours{dir: dir, log: slog.New(slog.DiscardHandler), changed: func() { woken++ }}
		n.load(was)
		return n
	}
	n := start(nil)
	check := func(name string, v announcer.View, s *snapshot.Snapshot, want string) {
		t.Helper()
		if got := fmt.Sprint(n.Learn(v, s)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	all := clusterOf("a", "b", "c")
	check("all speak", announcer.View{Node: "a", Members: []announcer.Member{
		speaks("a", "02::a", announcer.Alive), speaks("b", "02:00:00:00:00:0b", announcer.Alive), speaks("c", "02:00:00:00:00:0c", announcer.Alive),
	}}, all, "[02:00:00:00:00:0b 02:00:00:00:00:0c]")
	if err := n.Keep(); err != nil || woken != 1 {
		t.Fatal(err, woken)
	}
	check("gossip is cut", announcer.View{Node: "a", Members: []announcer.Member{
		speaks("a", "02::a", announcer.Alive), speaks("b", "02:00:00:00:00:0b", announcer.NodeGone),
	}}, all, "[02:00:00:00:00:0b 02:00:00:00:00:0c]")
	n = start(nil)
	alone := announcer.View{Node: "a", Members: []announcer.Member{speaks("a", "02::a", announcer.Alive)}}
	check("a restart while it is cut", alone, all, "[02:00:00:00:00:0b 02:00:00:00:00:0c]")
	check("no node is known", announcer.View{Node: "a"}, clusterOf(), "[02:00:00:00:00:0b 02:00:00:00:00:0c]")
	check("c left the cluster", alone, clusterOf("a", "b"), "[02:00:00:00:00:0b]")
	check("b has another card", announcer.View{Node: "a", Members: []announcer.Member{speaks("b", "02:00:00:00:00:bb", announcer.Alive)}}, all, "[02:00:00:00:00:bb]")

	if err := os.Remove(neighboursPath(dir)); err != nil {
		t.Fatal(err)
	}
	n = start(&saved.State{Snapshot: &snapshot.Snapshot{NodeStates: []*snapshot.NodeState{{Electable: snapshot.Electable{Node: "b", Links: []snapshot.Link{{MAC: "02:00:00:00:00:0b"}}}}}}})
	check("version 0.1 kept the NodeStates", alone, all, "[02:00:00:00:00:0b]")
}

// A damaged file costs what cannot be read of it, and no more.
func TestParseNeighbours(t *testing.T) {
	got := fmt.Sprint(parseNeighbours([]byte("a 02:00:00:00:00:0a 02:00:00:00:00:1a\n\nb\nc 02:00 02:00:00:00:00:0c\n\x00\xff")))
	if got != "map[a:[02:00:00:00:00:0a 02:00:00:00:00:1a] c:[02:00:00:00:00:0c]]" {
		t.Error(got)
	}
}

// A disk that is full or read-only is reported, and what was to be kept is kept later.
func TestKeepAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	n := &neighbours{dir: dir, log: slog.New(slog.DiscardHandler), changed: func() {}}
	n.load(nil)
	n.Learn(announcer.View{Node: "a", Members: []announcer.Member{speaks("b", "02:00:00:00:00:0b", announcer.Alive)}}, clusterOf("a", "b"))
	if err := n.Keep(); err == nil {
		t.Fatal("kept in a folder that is not there")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := n.Keep(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(neighboursPath(dir)); string(text) != "b 02:00:00:00:00:0b\n" {
		t.Errorf("%q, %v", text, err)
	}
}

// The story of a cut: two agents met, then the network between them drops what they say
// to each other, and one of them restarts. It elects itself for the address that the
// other node holds, asks for it on the link, and the other node's kernel answers. That is
// a node of the cluster, and no AddressConflict.
func TestGossipCut(t *testing.T) {
	dir, mac := t.TempDir(), "02:00:00:00:00:0b"
	own := speaks("a", "02:00:00:00:00:0a", announcer.Alive)
	own.Candidate = true
	start := func(members ...announcer.Member) (*Agent, *announcer.Set) {
		d := &diary{Fake: dataplanetest.NewFake(), world: storytest.NewWorld()}
		a := assemble(&Config{Node: "a", StateDir: dir, Log: slog.New(slog.DiscardHandler), Dataplane: d, Clients: &kube.Clients{}}, nodeLinks{d})
		a.cluster.store, a.gossip = d, alone{announcer.View{Node: "a", Members: members}}
		a.engine.proxy = Fairlead
		a.engine.state.Known, a.engine.state.InSync = true, true
		a.neighbours.load(nil)
		a.layer2.adopted = true
		d.do(t, a, "node a ips=198.51.100.1\nnode b ips=198.51.100.2")
		return a, a.decision.decider.Decide(a.collect(d.Snapshot(), time.Now())).Announce.Layer2
	}
	a, met := start(own, speaks("b", mac, announcer.Alive))
	if !met.Ours[mac] {
		t.Fatalf("the agents met, and ours are %v", met.Ours)
	}
	if err := a.save(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, cut := start(own); !cut.Ours[mac] {
		t.Errorf("after a restart without gossip ours are %v: the other node is a foreign host", cut.Ours)
	}
}
