package watch

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// network is some nodes on one link. Time goes in milliseconds; a frame arrives in the
// same one, or never.
type network struct {
	rand  *rand.Rand
	now   time.Time
	nodes []*simNode
	// loss is the chance that a frame from one node does not reach another.
	loss func(from, to *simNode) float64
	// lost counts the verdicts, by who gave them of whom.
	lost map[string]int
}

type simNode struct {
	name   string
	watch  Watch
	asks   []string  // whom it watches
	next   time.Time // when its thread runs again
	paused time.Time // until when its whole machine stands still
	inbox  []func()  // what waits for the thread
	dead   bool
	was    map[Target]bool
}

const link = "eth0"

var histories = flag.Int("histories", 1, "try this many times as many histories")

func newNetwork(seed uint64, watches map[string][]string, names ...string) *network {
	n := &network{rand: rand.New(rand.NewPCG(seed, 0)), now: time.Unix(1000, 0), lost: map[string]int{}}
	n.loss = func(_, _ *simNode) float64 { return 0 }
	for _, name := range names {
		node := &simNode{name: name, asks: watches[name], next: n.now.Add(time.Duration(n.rand.IntN(25)) * time.Millisecond), was: map[Target]bool{}}
		var targets []Target
		for _, other := range node.asks {
			targets = append(targets, Target{other, link})
		}
		node.watch.Follow(targets)
		n.nodes = append(n.nodes, node)
	}
	return n
}

func (n *network) node(name string) *simNode {
	for _, node := range n.nodes {
		if node.name == name {
			return node
		}
	}
	panic(name)
}

// passes reports whether a frame gets through.
func (n *network) passes(from, to *simNode) bool {
	return !from.dead && !to.dead && !n.now.Before(to.paused) && n.rand.Float64() >= n.loss(from, to)
}

// run lets d pass, and calls each after every millisecond.
func (n *network) run(d time.Duration, each func()) {
	for end := n.now.Add(d); n.now.Before(end); n.now = n.now.Add(time.Millisecond) {
		for _, node := range n.nodes {
			if !node.dead && !n.now.Before(node.paused) {
				n.wake(node)
			}
		}
		if each != nil {
			each()
		}
	}
}

// wake lets a node's thread work, if it is its turn.
func (n *network) wake(node *simNode) {
	stalled := n.now.Before(node.next) && node.watch.Due().Before(n.now)
	if stalled {
		return // its process stands still; its kernel does not
	}
	for _, take := range node.inbox {
		take()
	}
	node.inbox = nil
	n.say(node)
	n.note(node)
	if n.now.Before(node.next) {
		return
	}
	for _, q := range node.watch.Round(n.now) {
		for range q.Times {
			if to := n.node(q.Node); n.passes(node, to) && n.passes(to, node) {
				node.inbox = append(node.inbox, func() { node.watch.Answered(q.Target, n.now) })
			}
		}
	}
	n.say(node)
	node.next = node.watch.Due()
	n.note(node)
}

// note counts new verdicts of a node.
func (n *network) note(node *simNode) {
	for _, at := range node.watch.Lost(n.now) {
		if !node.was[at] {
			n.lost[node.name+" "+at.Node]++
		}
		node.was[at] = true
	}
}

// say delivers what a node has to say.
func (n *network) say(node *simNode) {
	for _, word := range node.watch.Words() {
		for _, to := range n.nodes {
			if to != node && n.passes(node, to) {
				to.inbox = append(to.inbox, func() { to.watch.Told(node.name, word.Target, word.Say, n.now) })
			}
		}
	}
}

// lostAt lets time pass until at calls of lost, and returns how long that took.
func (n *network) lostAt(most time.Duration, at, of string) time.Duration {
	began, took := n.now, time.Duration(-1)
	n.run(most, func() {
		if took < 0 && n.lost[at+" "+of] > 0 {
			took = n.now.Sub(began)
		}
	})
	return took
}

// two is a cluster of three in which each of two heirs watches the owner x, and each other.
var two = map[string][]string{"a": {"x", "b"}, "b": {"x", "a"}, "x": {"a", "b"}}

// TestDeadNodeIsLostSoon kills a node at random times.
func TestDeadNodeIsLostSoon(t *testing.T) {
	worst := time.Duration(0)
	for seed := range uint64(25 * *histories) {
		n := newNetwork(seed, two, "a", "b", "x", "c")
		n.run(4*time.Second+time.Duration(n.rand.IntN(50))*time.Millisecond, nil)
		if len(n.lost) > 0 {
			t.Fatalf("seed %d: lost %v before anything happened", seed, n.lost)
		}
		n.node("x").dead = true
		took := n.lostAt(300*time.Millisecond, "a", "x")
		if took < 0 || took > 110*time.Millisecond {
			t.Fatalf("seed %d: lost after %v, want 0.11 s at most", seed, took)
		}
		if n.lost["c x"] != 1 || n.lost["b x"] != 1 || len(n.lost) != 3 {
			t.Fatalf("seed %d: not everybody knows: %v", seed, n.lost)
		}
		worst = max(worst, took)
	}
	t.Log("worst", worst)
}

// TestDeadNodeIsLostWithin: on a network that loses frames it takes longer, and no longer
// than a second.
func TestDeadNodeIsLostWithin(t *testing.T) {
	for _, loss := range []float64{0.05, 0.1, 0.3, 0.4} {
		worst := time.Duration(0)
		for seed := range uint64(4 * *histories) {
			n := newNetwork(seed, two, "a", "b", "x")
			n.loss = func(_, _ *simNode) float64 { return loss }
			n.run(20*time.Second, nil)
			n.node("x").dead = true
			took := n.lostAt(2*time.Second, "a", "x")
			if took < 0 {
				t.Fatalf("loss %v, seed %d: never lost", loss, seed)
			}
			worst = max(worst, took)
		}
		if worst > 1200*time.Millisecond {
			t.Errorf("loss %v: lost after %v", loss, worst)
		}
		t.Logf("loss %v: worst %v", loss, worst)
	}
}

// TestLivingNodeIsNotLost tries what is not death: thousands of histories of loss, deaf and
// mute nodes, cuts and pauses. No node may be called lost.
func TestLivingNodeIsNotLost(t *testing.T) {
	uniform := func(p float64) func(*network) {
		return func(n *network) { n.loss = func(_, _ *simNode) float64 { return p } }
	}
	cut := func(which func(from, to string) bool) func(*network) {
		return func(n *network) {
			n.loss = func(from, to *simNode) float64 {
				if which(from.name, to.name) {
					return 1
				}
				return 0
			}
		}
	}
	three := map[string][]string{"a": {"x", "b"}, "b": {"x", "c"}, "c": {"x", "a"}}
	for _, tt := range []struct {
		name    string
		watches map[string][]string
		runs    int
		during  time.Duration
		act     func(*network)
		allowed string // the one who may be lost, and must
	}{
		{"no loss", two, 4, 10 * time.Second, nil, ""},
		{"30 % of all frames are lost", two, 1, time.Minute, uniform(0.3), ""},
		{"30 % of all frames begin to be lost", two, 20, 5 * time.Second, uniform(0.3), ""},
		{"30 % of the frames to x are lost", two, 20, 5 * time.Second, func(n *network) {
			n.loss = func(_, to *simNode) float64 {
				if to.name == "x" {
					return 0.3
				}
				return 0
			}
		}, ""},
		{"a is deaf", two, 8, 5 * time.Second, cut(func(_, to string) bool { return to == "a" }), "a"},
		{"a is mute", two, 8, 5 * time.Second, cut(func(from, _ string) bool { return from == "a" }), "a"},
		{"x is deaf", two, 8, 5 * time.Second, cut(func(_, to string) bool { return to == "x" }), "x"},
		{"a and x are cut", two, 8, 5 * time.Second, cut(func(from, to string) bool { return from+to == "ax" || from+to == "xa" }), ""},
		{"a and b are cut from x, which c hears", three, 8, 5 * time.Second, cut(func(from, to string) bool {
			return (from == "x" || to == "x") && from != "c" && to != "c"
		}), ""},
		{"a machine pauses for 0.2 s", two, 8, 5 * time.Second, func(n *network) {
			who := n.nodes[n.rand.IntN(2)] // a heir: of the owner nobody can tell
			who.paused = n.now.Add(200 * time.Millisecond)
		}, "pause"},
		{"threads stand still for 0.2 s now and then", two, 8, 5 * time.Second, stalls, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(tt.runs * *histories) {
				n := newNetwork(seed, tt.watches, "a", "b", "c", "x")
				n.run(5*time.Second, nil)
				if tt.act != nil {
					tt.act(n)
				}
				n.run(tt.during, nil)
				for who := range n.lost {
					if tt.allowed == "" || tt.allowed != "pause" && who[2:] != tt.allowed || tt.allowed == "pause" && who[2:] == "x" {
						t.Fatalf("seed %d: %v", seed, n.lost)
					}
				}
			}
		})
	}
}

// stalls lets the thread of a node stand still for 200 ms, every 50 to 450 ms.
func stalls(n *network) {
	var at time.Time
	watches := n.nodes
	n.run(20*time.Second, func() {
		if n.now.Before(at) {
			return
		}
		watches[n.rand.IntN(len(watches))].next = n.now.Add(200 * time.Millisecond)
		at = n.now.Add(time.Duration(50+n.rand.IntN(400)) * time.Millisecond)
	})
}

// TestLostNodeIsFound: a node that was lost answers again, and is believed after a while.
func TestLostNodeIsFound(t *testing.T) {
	n := newNetwork(1, two, "a", "b", "x")
	n.run(5*time.Second, nil)
	n.node("x").dead = true
	n.run(3*time.Second, nil)
	n.node("x").dead = false
	n.run(FoundAfter-100*time.Millisecond, nil)
	at := Target{"x", link}
	if got := fmt.Sprint(n.node("a").watch.Lost(n.now), n.node("x").watch.Lost(n.now)); got != "[{x eth0}] [{x eth0}]" {
		t.Errorf("lost at a, and at x itself: %s", got)
	}
	n.run(200*time.Millisecond+lostFor, nil)
	for _, node := range n.nodes {
		if lost := node.watch.Lost(n.now); len(lost) > 0 {
			t.Errorf("%s still calls %v lost", node.name, lost)
		}
	}
	if !n.node("a").watch.targets[at].answersAt(n.now) {
		t.Error("x answers nobody")
	}
}

// TestOneNodeIsNotBelieved: one node in the wrong hands says that another, which answers, is
// lost. Nobody believes it, also not a node that asks nobody, until a second one says so.
func TestOneNodeIsNotBelieved(t *testing.T) {
	n := newNetwork(1, two, "a", "b", "x", "y")
	n.run(5*time.Second, nil)
	at := Target{"x", link}
	for range 100 {
		for _, node := range n.nodes[1:] {
			node.watch.Told("a", at, Lost, n.now)
		}
		n.run(10*time.Millisecond, func() {
			for _, node := range n.nodes {
				if lost := node.watch.Lost(n.now); len(lost) > 0 {
					t.Fatalf("%s believes that %v are lost", node.name, lost)
				}
			}
		})
	}
	n.node("y").watch.Told("b", at, Lost, n.now)
	if got := fmt.Sprint(n.node("y").watch.Lost(n.now)); got != "[{x eth0}]" {
		t.Errorf("lost at y, whom two nodes told: %s", got)
	}
}

// TestCutNodeIsVouchedFor: a and x are cut from each other, and b hears both. For as long as
// that lasts, a knows that x answers.
func TestCutNodeIsVouchedFor(t *testing.T) {
	n := newNetwork(1, two, "a", "b", "x")
	n.run(5*time.Second, nil)
	n.loss = func(from, to *simNode) float64 {
		if pair := from.name + to.name; pair == "ax" || pair == "xa" {
			return 1
		}
		return 0
	}
	a, at := &n.node("a").watch, Target{"x", link}
	n.run(100*time.Millisecond, nil)
	n.run(time.Duration(tiredAfter)*Interval+5*time.Second, func() {
		if answering := a.Answering(n.now); !slices.Contains(answering, at) {
			t.Fatalf("%v after the cut, %v answer", n.now.Sub(time.Unix(1005, 0)), answering)
		}
	})
	n.node("x").dead = true
	if took := n.lostAt(time.Second, "a", "x"); took < 0 {
		t.Error("x is dead, and not lost")
	}
}
