package l2

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// turnNode is a node that never heard of another one, and takes vip4 in its turn.
type turnNode struct {
	*detector
	mac    string
	turn   int
	starts time.Time
	holds  bool        // its kernel answers
	known  bool        // holds, as its last decision knew it
	syncs  []time.Time // when its Set is carried out again
	says   []time.Time // when it announces
}

// turnStep is how often something happens, and turnSync how long a node takes to carry out
// what changed.
const turnStep, turnSync = 5 * time.Millisecond, 10 * time.Millisecond

// sync does what Leases.Sync does with a Set that was made of n.known.
func (n *turnNode) sync(now time.Time) {
	set := announcer.Set{Records: map[netip.Addr]announcer.Record{vip4: {UID: "u", Probed: true}}}
	if !n.known {
		set.Orphaned = map[netip.Addr]int{vip4: n.turn}
	}
	n.setKnown(set)
	was := n.holds
	n.holds = len(n.admit([]announcer.Claim{on4}, func(netip.Addr) bool { return was }, now)) == 1
	if n.holds == was {
		n.known = n.holds
		return
	}
	// The Set that knows of the change is carried out after the former one was once more.
	n.syncs, n.says = append(n.syncs, now.Add(turnSync), now.Add(2*turnSync)), nil
	if n.holds {
		n.says = []time.Time{now.Add(turnStep), now.Add(100 * time.Millisecond), now.Add(700 * time.Millisecond), now.Add(2 * time.Second)}
	}
}

// due removes the first of times if that is over, and reports whether it is.
func due(times *[]time.Time, now time.Time) bool {
	if len(*times) == 0 || (*times)[0].After(now) {
		return false
	}
	*times = (*times)[1:]
	return true
}

// step does what is due, and reports whether n announces the address and asks for it.
func (n *turnNode) step(now time.Time) (says, asks bool) {
	if now.Equal(n.starts) {
		n.sync(now)
	}
	asks = len(n.tick(now, mostAddresses)) > 0
	if n.changed {
		n.changed, n.syncs = false, append([]time.Time{now.Add(turnSync)}, n.syncs...)
	}
	for due(&n.syncs, now) {
		n.sync(now)
	}
	return due(&n.says, now) && !n.silent(vip4), asks
}

// hears takes in that of announces the address, or asks for it.
func (n *turnNode) hears(of *turnNode, probe bool, now time.Time) {
	if now.Before(n.starts) {
		return
	}
	for _, a := range n.heard(on4.Link, assertion{vip4, of.mac, probe}, now) {
		if a.defend {
			n.says = append([]time.Time{now}, n.says...)
		}
	}
}

// tryTurns has nodes take vip4 for 5 s. It returns who answers in the end, and for how long
// two and, after the first answer, none did.
func tryTurns(nodes []*turnNode, from time.Time) (owners []int, doubled, silent time.Duration) {
	began := false
	for now := from; now.Before(from.Add(5 * time.Second)); now = now.Add(turnStep) {
		owners = nil
		for i, n := range nodes {
			if now.Before(n.starts) {
				continue
			}
			says, asks := n.step(now)
			for _, o := range nodes {
				if o != n && says {
					o.hears(n, false, now)
				}
				if o != n && asks {
					o.hears(n, true, now)
				}
				if o != n && asks && o.holds { // its kernel answers
					n.hears(o, false, now)
				}
			}
			if n.holds {
				owners = append(owners, i)
			}
		}
		began = began || len(owners) > 0
		if len(owners) > 1 {
			doubled += turnStep
		}
		if began && len(owners) == 0 {
			silent += turnStep
		}
	}
	return owners, doubled, silent
}

// TestTurnsEnd: nodes that never heard of each other take an address by turns, whenever each
// of them starts. Two answer for a moment at most, and one in the end. If all took the
// address at one moment, that is the first in turn.
func TestTurnsEnd(t *testing.T) {
	from, turn := time.Unix(1000, 0), asksATurn*AskSoon
	for _, turns := range [][]int{{0, 1}, {0, 1, 2}, {1, 2}, {1, 2, 3}, {0, 10, 10}} {
		for apart := time.Duration(0); apart <= 2*turn; apart += turnStep {
			nodes := make([]*turnNode, len(turns))
			for i := range turns { // the first in turn starts last
				nodes[i] = &turnNode{
					detector: newDetector(), mac: fmt.Sprintf("02:00:00:00:00:%02x", i), turn: turns[i],
					starts: from.Add(apart * time.Duration(len(turns)-1-i)),
				}
			}
			owners, doubled, silent := tryTurns(nodes, from)
			together := apart == turn && turns[1] == turns[0]+1
			if len(owners) != 1 || together && owners[0] != 0 {
				t.Errorf("turns %v, %v apart: %v answer in the end", turns, apart, owners)
			}
			if doubled > 100*time.Millisecond || silent > 500*time.Millisecond {
				t.Errorf("turns %v, %v apart: two answer for %v, none for %v", turns, apart, doubled, silent)
			}
		}
	}
}

// TestLaterTurnGivesWay: the kernel answers no more for addresses that another host took at
// the same moment, and answers again when that host is silent.
func TestLaterTurnGivesWay(t *testing.T) {
	l := newLAN(t)
	p, ls := l.tap(t), l.holder()
	l.run(t, ls)
	set := announcer.Set{Claims: []announcer.Claim{on4, on6}, Orphaned: map[netip.Addr]int{vip4: 1, vip6: 1}}
	holds := func(want int) bool {
		held, err := ls.Sync(set)
		return err == nil && len(held) == want
	}
	nstest.Eventually(t, "both are taken", func() bool { return holds(2) })
	ls.mu.Lock()
	for _, c := range ls.detector.contests {
		c.took = time.Now().Add(time.Hour) // so that a slow machine claims them in time
	}
	ls.mu.Unlock()
	nstest.Eventually(t, "both are given up", func() bool {
		for _, vip := range []netip.Addr{vip4, vip6} {
			frames, err := gratuitousFrames(p.mac, vip)
			p.send(t, frames[0], err)
		}
		return holds(0)
	})
	if now, err := ls.answers.read(); err != nil || len(now.addrs) > 0 {
		t.Errorf("the kernel answers for %v, %v", now.addrs, err)
	}
	nstest.Eventually(t, "both are taken again", func() bool { return holds(2) })
}

// A node that gives way does not announce the address any more, even if the kernel still
// answers for it.
func TestGivingWayIsSilent(t *testing.T) {
	r := &runner{Leases: &Leases{detector: newDetector(), bursts: map[announcer.Claim]*burst{on4: {}}}}
	r.detector.contests[vip4] = &contest{phase: free}
	r.sendBursts(time.Unix(1000, 0))
	if len(r.bursts) != 1 {
		t.Error("an address that is held is not announced")
	}
	r.detector.contests[vip4].phase = waiting
	r.sendBursts(time.Unix(1000, 0))
	if len(r.bursts) > 0 {
		t.Error("an address that is given up is announced")
	}
}
