package l2

import (
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/watch"
)

// The times of address conflict detection.
const (
	// Probes are sent for an address, ProbeEvery apart; it is free if nobody has
	// claimed it ProbeEvery after the last.
	Probes     = 3
	ProbeEvery = 200 * time.Millisecond
	// ProbeAgain is how long an address in conflict is left alone.
	ProbeAgain = 45 * time.Second
	// DefendEvery is the shortest time between two defences of an address: RFC
	// 5227 section 2.4, DEFEND_INTERVAL.
	DefendEvery = 10 * time.Second
	// CalmAfter is how long nobody else has to claim an announced address for the
	// dispute to be over.
	CalmAfter = 60 * time.Second
	// An address whose last owner's kernel may still answer is asked for AskEvery apart,
	// while that answers. A question that was not answered is followed by rounds of
	// askTimes, AskSoon apart, and the address is free after Asks rounds: the kernel stops
	// answering all at once, and loss alone rarely takes a whole round.
	// After askSlowly they are AskAgain apart: who has the address may have it for long,
	// and is unheard by agents alone.
	Asks      = 3
	AskEvery  = 50 * time.Millisecond
	AskSoon   = 25 * time.Millisecond
	AskAgain  = 500 * time.Millisecond
	askTimes  = 5
	asksATurn = 8 // further rounds for each turn before this node's: Set.Orphaned
	askSlowly = 40 * time.Second
	// A node that took an address, and whose turn is not the first, gives way for giveWayFor
	// to another host that claims it. One that took it at the same moment announces it for 2 s.
	giveWayFor = 3 * time.Second
)

// Finding is what this node learnt of an address and its record does not say, or
// what goes on.
type Finding struct {
	Addr     netip.Addr
	UID      string    // of the record for which it was found
	ProbedAt time.Time // zero: not probed by this node
	Conflict string    // MAC of the host that has the address; it is not announced
	Claimant string    // MAC of a host that claims it while it is announced
}

// phase is how far an address is.
type phase uint8

const (
	probing phase = iota
	free          // to be announced
	taken         // by a foreign host
	waiting       // for the kernel of its last owner to fall silent
)

// contest is the state of one address.
type contest struct {
	uid      string
	phase    phase
	links    []string
	held     bool      // the kernel answers for it here
	quiet    bool      // its last owner's kernel does not answer any more
	since    time.Time // since when it waits
	deaf     bool      // nothing was heard on its links while it was asked for
	passed   time.Time // when another node of ours announced it last
	left     bool      // it is given up for that node
	again    time.Time // when it was last announced again because of that
	sent     int       // probes
	turn     int       // this node's turn when it waited last: Set.Orphaned
	asks     int       // rounds without an answer until it is free
	took     time.Time // when it was free after that for the first time
	due      time.Time // of the next probe, the verdict or the next round; zero: none
	probedAt time.Time // end of the last round
	conflict string    // MAC

	defended  time.Time
	contested time.Time // last foreign claim while held
	claimant  string    // who claimed after a defence
}

// detector is address conflict detection (RFC 5227; RFC 4862 section 5.4 for
// IPv6) for all addresses of a node, without clock and sockets.
type detector struct {
	known    announcer.Set
	contests map[netip.Addr]*contest
	changed  bool                        // findings or what may be announced changed
	tuned    bool                        // nothing changed of what is to be heard
	heardAt  func(link string) time.Time // see Leases.HeardAt

	conflicts, defences int // so far
}

func newDetector() *detector { return &detector{contests: map[netip.Addr]*contest{}} }

// setKnown takes in what the cluster knows. A conflict with a host that turns out to
// be ours is none.
func (d *detector) setKnown(k announcer.Set) {
	d.known = k
	for _, c := range d.contests {
		if k.Ours[c.conflict] {
			c.conflict, c.phase, c.due, d.changed = "", free, time.Time{}, true
		}
		if k.Ours[c.claimant] {
			c.claimant, d.changed = "", true
		}
	}
}

// admit takes in what is to be announced and returns what may be: not what is
// still being probed, nor what somebody else has. An address that is held
// already, or is recorded as probed, is not held up.
func (d *detector) admit(claims []announcer.Claim, held func(netip.Addr) bool, now time.Time) []announcer.Claim {
	d.tuned = false
	links := byAddr(claims)
	disputed := byAddr(d.known.Disputed)
	for addr := range d.contests {
		if links[addr] == nil && disputed[addr] == nil {
			delete(d.contests, addr)
		}
	}
	for addr, on := range disputed {
		// Another node found the foreign host, and recorded it. The elected node asks again, so that
		// the conflict ends by itself.
		c := d.contest(addr, false, now)
		// What this node's own questions found free stays so: the record says it only later.
		if c.phase == free && (c.held || c.probedAt.IsZero()) {
			c.phase, c.conflict, c.due = taken, d.known.Records[addr].Conflict, now
		}
		c.links, c.held = on, false
	}
	for addr, on := range links {
		c := d.contest(addr, held(addr), now)
		turn, orphaned := d.known.Orphaned[addr]
		// What the kernel here answers for stays held: an agent that restarts gives nothing up.
		c.wait(orphaned && !held(addr), turn, now)
		c.links, c.held = on, !d.leaves(addr, now) && (c.phase == free || held(addr) && c.phase != waiting)
	}
	return slices.DeleteFunc(slices.Clone(claims), func(c announcer.Claim) bool { return !d.contests[c.Addr].held })
}

// leaves reports whether addr is given up now, as its next owner announces it.
func (d *detector) leaves(addr netip.Addr, now time.Time) bool {
	c := d.contests[addr]
	c.left = d.known.Leaving[addr] && (c.left || now.Sub(c.passed) < announcer.LeaveAfter)
	return c.left
}

// silent reports whether addr is not announced, although the kernel answers for it here: its
// next owner speaks, or this node gives way to another.
func (d *detector) silent(addr netip.Addr) bool {
	c := d.contests[addr]
	return d.known.Leaving[addr] || c != nil && c.phase == waiting
}

// wait begins to wait until nobody answers, or ends it.
func (c *contest) wait(left bool, turn int, now time.Time) {
	// Nodes that never heard each other take turns, so that one takes the address and the others
	// hear it answer.
	if left {
		c.turn = turn
	}
	c.asks = Asks + c.turn*asksATurn
	// What was taken and is waited for again was given up: Set.Orphaned has it only after the
	// next decision.
	gaveWay := !c.took.IsZero() && now.Sub(c.since) < giveWayFor
	switch {
	case left && c.phase == free && !c.quiet:
		c.took = time.Time{}
		c.ask(now, now)
	case !left && c.phase == waiting && !gaveWay:
		c.phase, c.due = free, time.Time{}
	}
	c.quiet = c.quiet && left
}

// ask begins to wait: the first question is due at first.
func (c *contest) ask(first, now time.Time) {
	c.phase, c.sent, c.due, c.since, c.deaf = waiting, 0, first, now, false
}

func byAddr(claims []announcer.Claim) map[netip.Addr][]string {
	out := map[netip.Addr][]string{}
	for _, c := range claims {
		out[c.Addr] = append(out[c.Addr], c.Link)
	}
	return out
}

// contest returns the state of addr in its present assignment.
func (d *detector) contest(addr netip.Addr, held bool, now time.Time) *contest {
	record, known := d.known.Records[addr]
	c := d.contests[addr]
	// An address is probed once for each assignment. Another UID is another assignment.
	if c == nil || known && c.uid != record.UID && c.uid != "" {
		c = &contest{phase: free}
		d.contests[addr] = c
	}
	if known && c.uid == "" {
		c.uid = record.UID
		if !record.Probed {
			c.phase, c.due = probing, now
		}
	}
	settled := known && record.Probed && record.Conflict == "" && c.phase == probing // by another node
	// What is held is defended instead: RFC 5227 section 2.4 (c).
	if settled || held && c.phase == taken {
		c.phase, c.due, c.conflict = free, time.Time{}, ""
	}
	return c
}

// action is one thing to send on one link.
type action struct {
	announcer.Claim
	defend bool
	again  bool // announce it again soon; neither: probe
}

// tick does what is due at now, and returns what to send, at most a number of
// addresses' at a time.
func (d *detector) tick(now time.Time, most int) (out []action) {
	for addr, c := range d.contests {
		if !c.contested.IsZero() && now.Sub(c.contested) >= CalmAfter {
			d.changed = d.changed || c.claimant != ""
			c.contested, c.claimant = time.Time{}, ""
		}
		if c.due.IsZero() || now.Before(c.due) || most <= 0 {
			continue
		}
		// The pause after a conflict is over: ask again.
		if c.phase == taken {
			c.phase, c.sent, d.tuned = probing, 0, false
		}
		// Nodes take turns from when they hear, not from when each began to listen.
		if c.phase == waiting && (c.sent == Asks || c.sent >= c.asks) && d.unproven(c, now) {
			continue
		}
		if c.phase == waiting && c.sent >= c.asks {
			c.phase, c.quiet, c.due, c.sent, d.changed = free, true, time.Time{}, 0, true
			if c.took.IsZero() {
				c.took = now
			}
			continue
		}
		// Nobody claimed it ProbeEvery after the last probe: RFC 5227 section 2.1.1.
		if c.phase == probing && c.sent == Probes {
			c.phase, c.due, c.sent, c.conflict, c.probedAt, d.changed = free, time.Time{}, 0, "", now, true
			continue
		}
		for range c.times() {
			for _, l := range c.links {
				out = append(out, action{Claim: announcer.Claim{Addr: addr, Link: l}})
			}
		}
		c.sent, c.due = c.sent+1, now.Add(c.pause())
		most--
	}
	slices.SortFunc(out, func(a, b action) int { return a.Claim.Compare(b.Claim) })
	return out
}

// times is how many questions the next round for an address has.
func (c *contest) times() int {
	// A lossy network must not look like silence: an unanswered question is followed by several.
	if c.phase == waiting && c.sent > 0 && c.sent < Asks {
		return askTimes
	}
	return 1
}

// next returns when tick is to be called again, at last.
func (d *detector) next(last time.Time) time.Time {
	for _, c := range d.contests {
		if !c.due.IsZero() && c.due.Before(last) {
			last = c.due
		}
	}
	return last
}

// unproven reports whether the silence at c's questions means nothing, as nobody was heard
// on its links since the first of them: this node may have become deaf with the last frame
// that it heard, and called the owner gone for that. They are asked again when somebody is.
func (d *detector) unproven(c *contest, now time.Time) bool {
	if d.heardAt == nil {
		return false
	}
	heard := slices.ContainsFunc(c.links, func(link string) bool {
		at := d.heardAt(link)
		return at.After(c.since) && now.Sub(at) <= watch.HeardFor
	})
	if heard && !c.deaf {
		return false
	}
	if heard {
		c.sent = 0
	}
	c.deaf, c.due = !heard, now.Add(AskEvery)
	return true
}

// pause is the time between two rounds for an address after an unanswered first round.
func (c *contest) pause() time.Duration {
	if c.phase == waiting {
		return AskSoon
	}
	return ProbeEvery
}

// heard takes in what was heard on a link, and returns how to answer it.
func (d *detector) heard(link string, a assertion, now time.Time) []action {
	c := d.contests[a.addr]
	if c != nil && c.phase == waiting && !a.probe && slices.Contains(c.links, link) {
		// The last owner still answers. If only its gossip is blocked it renews its lease for good,
		// so after a while it is asked seldom.
		c.sent, c.due = 0, now.Add(AskEvery) // also if it answers several times
		if now.Sub(c.since) > askSlowly {
			c.due = now.Add(AskAgain)
		}
		return nil
	}
	if c == nil || !slices.Contains(c.links, link) {
		return nil
	}
	if !a.probe && c.givesWay(now) {
		c.quiet, d.changed = false, true
		c.ask(now.Add(AskEvery), now)
		return nil
	}
	if d.known.Ours[a.mac] {
		// Two nodes of ours that ask for one address at once are not foreign hosts.
		if a.probe {
			return nil
		}
		return d.heardOurs(c, a.addr, now)
	}
	switch {
	case c.held && !a.probe: // the kernel answers probes
		return d.defend(c, a, now)
	// Also if that host only asks for the address: RFC 5227 section 2.1.1, RFC 4862 section 5.4.3.
	case c.phase == probing && !c.held:
		if c.conflict == "" {
			d.conflicts++
		}
		c.phase, c.due, c.conflict, c.probedAt, d.changed = taken, now.Add(ProbeAgain), a.mac, now, true
		d.tuned = false
	}
	return nil
}

// givesWay reports whether another host that claims the address took it at the same moment
// as this node, and may be the one whose turn comes first. Neither knows of the other, so
// each would defend the address against a foreign host.
func (c *contest) givesWay(now time.Time) bool {
	return c.turn > 0 && c.phase == free && now.Sub(c.took) < giveWayFor
}

// heardOurs takes in that another node of ours announced addr. It may be the next owner, of
// which this node hears later. If it was wrong, the owner has to have the last word: it
// announces again.
func (d *detector) heardOurs(c *contest, addr netip.Addr, now time.Time) (out []action) {
	c.passed = now
	// While both nodes answer, a host that asks again is told of both in turn, and the packets of
	// one connection go to both.
	if d.known.Leaving[addr] {
		d.changed = d.changed || !c.left
		return nil
	}
	// Two owners that each answer the other's announcement would do so without end.
	if !c.held || !c.again.IsZero() && now.Sub(c.again) < DefendEvery {
		return nil
	}
	c.again = now
	for _, l := range c.links {
		out = append(out, action{Claim: announcer.Claim{Addr: addr, Link: l}, again: true})
	}
	return out
}

// defend answers a foreign claim to an address that is announced here: RFC 5227
// section 2.4 (c), because an address that a Service holds has nowhere to go.
func (d *detector) defend(c *contest, a assertion, now time.Time) (out []action) {
	if c.contested.IsZero() {
		d.conflicts++
	}
	c.contested = now
	// A node that took the address at the same moment gives way, and is not told of.
	told := now.Sub(c.took) >= giveWayFor
	if told && !c.defended.IsZero() && now.Sub(c.defended) < CalmAfter && c.claimant == "" {
		c.claimant, d.changed = a.mac, true
	}
	// Two hosts that both defend an address would do so without end: RFC 5227 section 2.4.
	if !c.defended.IsZero() && now.Sub(c.defended) < DefendEvery {
		return nil
	}
	c.defended = now
	d.defences++
	for _, l := range c.links {
		out = append(out, action{Claim: announcer.Claim{Addr: a.addr, Link: l}, defend: true})
	}
	return out
}

// restartProbes forgets probes under way: nothing was heard while this process stood
// still.
func (d *detector) restartProbes(now time.Time) {
	for _, c := range d.contests {
		if c.phase == probing || c.phase == waiting {
			c.sent, c.due = 0, now
		}
	}
}

// watched lists what is to be heard of on each link.
func (d *detector) watched() map[string][]netip.Addr {
	out := map[string][]netip.Addr{}
	for addr, c := range d.contests {
		if c.phase != taken {
			for _, l := range c.links {
				out[l] = append(out[l], addr)
			}
		}
	}
	return out
}

// findings returns, sorted, what is to be told: probes and conflicts that the
// record does not say yet, and claims by others.
func (d *detector) findings() []Finding {
	var out []Finding
	for addr, c := range d.contests {
		record := d.known.Records[addr]
		f := Finding{Addr: addr, UID: c.uid, Claimant: c.claimant}
		// What was found for an earlier assignment says nothing about this one.
		if unsaid := !c.probedAt.IsZero() && (!record.Probed || record.Conflict != c.conflict); unsaid && c.uid == record.UID {
			f.ProbedAt, f.Conflict = c.probedAt, c.conflict
		}
		if c.uid != "" && (f.Claimant != "" || !f.ProbedAt.IsZero()) {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b Finding) int { return a.Addr.Compare(b.Addr) })
	return out
}
