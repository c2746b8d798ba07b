package agent

import (
	"bufio"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/test/asktest"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// partial is a failure of a part of the cluster.
type partial struct {
	name  string
	setup peerSetup
	// does breaks something and mends it, while the client asks.
	does func(t *testing.T, p *peers)
	// moves names the nodes whose addresses may move; "all" is any.
	moves string
	// doubled is how long two nodes may answer beside what is promised: as long as the
	// failure, where nobody can know better.
	doubled time.Duration
	// start asks from before the agents start.
	start bool
}

// dropFor has the switch drop what matches rules for d.
func dropFor(d time.Duration, rules ...string) func(*testing.T, *peers) {
	return func(t *testing.T, p *peers) {
		t.Helper()
		p.cut(t, rules...)
		time.Sleep(d)
		p.cut(t)
	}
}

// refuse has the firewall of each node refuse gossip, as REJECT does.
const refuse = `table inet firewall { chain input { type filter hook input priority 0;
udp dport 7947 reject with icmpx host-unreachable
tcp dport 7947 reject with icmpx host-unreachable
}; }`

var partials = []partial{
	{name: "a does not hear, twice within a minute, and its switch speaks", does: func(t *testing.T, p *peers) {
		t.Helper()
		p.switchSpeaks(t, "a")
		for range 2 {
			dropFor(10*time.Second, `oifname to-a`)(t, p)
			time.Sleep(8 * time.Second)
		}
	}, moves: "a"},
	{name: "a boots and does not hear", does: func(t *testing.T, p *peers) {
		t.Helper()
		p.end(t, "a", syscall.SIGKILL)
		p.spaces["a"].Run(t, "nft", "flush", "ruleset")
		p.cut(t, `oifname to-a`)
		p.start(t, "a")
		time.Sleep(15 * time.Second) // it takes itself for the only node after 5 s
		p.cut(t)
	}, moves: "a"},
	{name: "a cannot send", does: dropFor(6*time.Second, `iifname to-a`), moves: "a"},
	{name: "30 % of the frames to a are lost", does: dropFor(10*time.Second, `oifname to-a numgen random mod 100 < 30`)},
	{name: "the first switch loses a, and gossip goes elsewhere", setup: peerSetup{second: true}, does: dropFor(6*time.Second, `iifname to-a`, `oifname to-a`), moves: "a"},
	{name: "gossip is dropped", does: dropFor(6*time.Second, gossipFrames...)},
	{name: "gossip is refused", does: func(t *testing.T, p *peers) {
		t.Helper()
		for _, s := range p.spaces {
			s.Pipe(t, refuse, "nft", "-f", "-")
		}
		time.Sleep(6 * time.Second)
		for _, s := range p.spaces {
			s.Run(t, "nft", "delete", "table", "inet", "firewall")
		}
	}},
	// As far apart as their turns, so that some take an address at the same moment.
	{name: "gossip is dropped from the start", start: true, moves: "all", setup: peerSetup{apart: 200 * time.Millisecond, before: func(t *testing.T, p *peers) {
		t.Helper()
		p.cut(t, gossipFrames...)
	}}, does: func(t *testing.T, p *peers) {
		t.Helper()
		time.Sleep(12 * time.Second)
		p.cut(t)
	}},
	{name: "gossip is dropped from the start, and then by b alone", start: true, moves: "all", setup: peerSetup{before: func(t *testing.T, p *peers) {
		t.Helper()
		p.cut(t, gossipFrames...)
	}}, does: func(t *testing.T, p *peers) {
		t.Helper()
		time.Sleep(8 * time.Second)
		var ofB []string
		for _, frames := range gossipFrames {
			ofB = append(ofB, "iifname to-b "+frames, "oifname to-b "+frames)
		}
		dropFor(3*time.Second, ofB...)(t, p)
	}},
	{name: "a has another key", start: true, setup: peerSetup{keys: map[string]string{"a": "fedcba9876543210"}}, moves: "all", does: func(*testing.T, *peers) {}},
	{name: "the API server is lost to c when a Service is made", does: func(t *testing.T, p *peers) {
		t.Helper()
		p.signal(t, "a", syscall.SIGUSR2)
		p.signal(t, "b", syscall.SIGUSR2)
		later := addressesIn(laterServices)
		all := p.addrs
		p.addrs = later
		for addr, owner := range p.settled(t) {
			if owner == "c" {
				t.Errorf("c, which does not know %s, answers for it", addr)
			}
		}
		p.signal(t, "c", syscall.SIGUSR2)
		nstest.Eventually(t, "c has its share", func() bool {
			for _, h := range p.listen(t, time.Second) {
				if macs := h.Moves(); len(macs) == 1 && p.node(macs[0]) == "c" {
					return true
				}
			}
			return false
		})
		p.addrs = all
	}},
	{name: "another machine has the name of a", does: func(t *testing.T, p *peers) {
		t.Helper()
		s := nstest.New(t, "twin")
		p.wire(t, s, "twin", 4)
		p.startIn(t, s, "a")
		time.Sleep(6 * time.Second)
	}},
	{name: "a stands still for 0.7 s", does: func(t *testing.T, p *peers) {
		t.Helper()
		p.signal(t, "a", syscall.SIGSTOP)
		dropFor(700*time.Millisecond, `iifname to-a`, `oifname to-a`)(t, p)
		p.signal(t, "a", syscall.SIGCONT)
	}, moves: "a"},
	{name: "all start at once", start: true, moves: "all", does: func(*testing.T, *peers) {}},
	{name: "the agents are restarted one by one", does: func(t *testing.T, p *peers) {
		t.Helper()
		for _, name := range p.names {
			p.end(t, name, syscall.SIGTERM)
			time.Sleep(time.Second)
			p.start(t, name)
			time.Sleep(4 * time.Second)
		}
	}},
	{name: "all boot at once", moves: "all", does: func(t *testing.T, p *peers) {
		t.Helper()
		for _, name := range p.names {
			p.end(t, name, syscall.SIGKILL)
			p.spaces[name].Run(t, "nft", "flush", "ruleset")
		}
		for _, name := range p.names {
			p.start(t, name)
		}
		time.Sleep(10 * time.Second)
	}},
	{name: "one of two nodes loses its power", setup: peerSetup{nodes: "a,b"}, does: func(t *testing.T, p *peers) {
		t.Helper()
		p.cut(t, `iifname to-a`, `oifname to-a`)
		p.end(t, "a", syscall.SIGKILL)
		time.Sleep(3 * time.Second)
	}, moves: "a"},
	{name: "two nodes alone are cut from each other, and a client hears both", setup: peerSetup{nodes: "a,b"}, does: dropFor(6*time.Second, `iifname to-a oifname to-b`, `iifname to-b oifname to-a`), moves: "all", doubled: 6 * time.Second},
}

// TestPartialFailures: a client asks for each address every 20 ms while a part of the cluster
// fails. Some node answers, one node only, no address moves that need not, and the last
// announcement is the owner's. A machine that keeps time is held to what is promised, another
// one to ten times that. "make e2e WHAT=partial" tries the table.
func TestPartialFailures(t *testing.T) {
	if os.Getenv("FAIRLEAD_E2E_ALL") == "" {
		t.Skip("takes minutes: make e2e WHAT=partial")
	}
	for _, f := range partials {
		t.Run(f.name, func(t *testing.T) { f.try(t) })
	}
}

func (f partial) try(t *testing.T) {
	setup := f.setup
	var stop func() map[netip.Addr]*asktest.Heard
	if f.start {
		before := setup.before
		setup.before = func(t *testing.T, p *peers) {
			t.Helper()
			if before != nil {
				before(t, p)
			}
			stop = p.ask(t)
		}
	}
	stalled := asktest.Stalls(t)
	p := newPeers(t, setup)
	var owners map[netip.Addr]string
	if stop == nil {
		owners = p.settled(t)
		stop = p.ask(t)
		time.Sleep(3 * time.Second) // so that all have been watched
	}
	f.does(t, p)
	time.Sleep(4 * time.Second)
	p.settled(t)
	end, heard := time.Now(), stop()
	most := asktest.LimitsAt(stalled())
	most.Doubled += f.doubled
	var longest asktest.Limits
	for _, addr := range p.addrs {
		h := heard[addr]
		if f.start && len(h.Answers) > 0 {
			h.Began = h.Answers[0].At
		}
		moves := f.moves == "all" || f.moves != "" && owners[addr] == f.moves
		silence, doubled := p.judge(t, addr, h, moves, most, end)
		longest.Silence, longest.Doubled = max(longest.Silence, silence), max(longest.Doubled, doubled)
	}
	t.Logf("partial: %s: %v without an answer, at most %v; %v with two, at most %v; a program waited for a core for %v",
		f.name, longest.Silence.Round(time.Millisecond), most.Silence, longest.Doubled.Round(time.Millisecond), most.Doubled, stalled().Round(time.Millisecond))
	p.agreed(t, heard)
}

// TestPortThatOpensLate: the switch forwards nothing for 20 s after a node has taken its
// addresses. A router whose entries do not age is told soon after that where these are.
func TestPortThatOpensLate(t *testing.T) {
	if os.Getenv("FAIRLEAD_E2E_ALL") == "" {
		t.Skip("takes a minute: make e2e WHAT=partial")
	}
	p := plugPeers(t, peerSetup{nodes: "a"})
	for _, addr := range p.addrs {
		p.client.Run(t, "ip", "neigh", "add", addr.String(), "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "stale")
	}
	told := func() (n int) {
		for _, addr := range p.addrs {
			if strings.Contains(p.client.Run(t, "ip", "neigh", "show", addr.String()), p.mac["a"]) {
				n++
			}
		}
		return n
	}
	p.cut(t, `iifname to-a`, `oifname to-a`)
	p.start(t, "a")
	nstest.Eventually(t, "a has its addresses", func() bool {
		text, err := os.ReadFile(p.logs + "/a")
		return err == nil && strings.Count(string(text), "msg=announcing") == len(p.addrs)
	})
	time.Sleep(20 * time.Second)
	if n := told(); n > 0 {
		t.Fatalf("%d addresses are known behind a port that forwards nothing", n)
	}
	p.cut(t)
	opened := time.Now()
	nstest.Eventually(t, "the router knows where the addresses are", func() bool { return told() == len(p.addrs) })
	took := time.Since(opened)
	t.Logf("partial: a port opens late: the router knows after %v, at most 30s", took.Round(time.Millisecond))
	if took > 30*time.Second {
		t.Errorf("the router was told %v after the port opened", took)
	}
}

// stallsEnv holds how long TestStalls takes.
const stallsEnv = "FAIRLEAD_STALLS"

// TestStallsMoveNothing: two programs on each core are busy, and at random all that runs on a
// node or on two of them stands still for 200 ms. No address moves. It prints each move, and
// what the agents said before it. "make bench WHAT=stalls" runs it for half an hour.
func TestStallsMoveNothing(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv(stallsEnv))
	if err != nil {
		t.Skip("takes long: make bench WHAT=stalls")
	}
	p := newPeers(t, peerSetup{})
	owners := p.settled(t)
	busy(t)
	stop := p.ask(t)
	stalls := p.stall(t, length)
	heard := stop()
	moved := 0
	for _, addr := range p.addrs {
		moved += p.printMoves(t, addr, heard[addr])
	}
	t.Logf("bench-stalls: %d stalls of 200 ms in %v, %d addresses: %d moves", stalls, length, len(owners), moved)
	if moved > 0 {
		t.Error("addresses moved that need not")
	}
}

// busy keeps two programs on each core busy until the test ends.
func busy(t *testing.T) {
	t.Helper()
	for range 2 * runtime.NumCPU() {
		cmd := exec.Command("sh", "-c", "while :; do :; done")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
}

// stall has one node or two stand still for 200 ms, again and again for length. It returns
// how often.
func (p *peers) stall(t *testing.T, length time.Duration) (stalls int) {
	t.Helper()
	for end := time.Now().Add(length); time.Now().Before(end); stalls++ {
		nodes := rand.Perm(len(p.names))[:1+rand.IntN(2)]
		for _, at := range nodes {
			p.signal(t, p.names[at], syscall.SIGSTOP)
		}
		time.Sleep(200 * time.Millisecond)
		for _, at := range nodes {
			p.signal(t, p.names[at], syscall.SIGCONT)
		}
		time.Sleep(time.Duration(200+rand.IntN(1800)) * time.Millisecond)
	}
	return stalls
}

// printMoves prints when an address moved and what the agents said in the 2 s before. It
// returns how often it moved.
func (p *peers) printMoves(t *testing.T, addr netip.Addr, h *asktest.Heard) (moves int) {
	t.Helper()
	for i, answer := range h.Answers {
		if i == 0 || h.Answers[i-1].MAC == answer.MAC {
			continue
		}
		moves++
		t.Logf("%s moved from %s to %s at %s", addr, p.node(h.Answers[i-1].MAC), p.node(answer.MAC), answer.At.Format(time.TimeOnly+".000"))
		for _, name := range p.names {
			p.said(t, name, answer.At.Add(-2*time.Second), answer.At)
		}
	}
	return moves
}

// said prints what an agent said between two times.
func (p *peers) said(t *testing.T, name string, from, until time.Time) {
	t.Helper()
	log, err := os.Open(p.logs + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	for lines := bufio.NewScanner(log); lines.Scan(); {
		stamp, _, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "time="), " ")
		if at, err := time.Parse(time.RFC3339Nano, stamp); err == nil && at.After(from) && at.Before(until) {
			t.Logf("  %s: %s", name, lines.Text())
		}
	}
}
