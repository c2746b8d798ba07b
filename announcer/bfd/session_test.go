package bfd_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bfd"
)

const ms = time.Millisecond

// pair is two Sessions and a wire that can be cut in either direction, on a
// clock of its own.
type pair struct {
	t          *testing.T
	now        time.Time
	a, b       *bfd.Session
	cutA, cutB bool // what a, or b, sends is lost
	rand       *rand.Rand
	sentA      []bfd.Packet
	timesA     []time.Time
}

func newPair(t *testing.T, a, b bfd.Config) *pair {
	now := time.Unix(1000, 0)
	return &pair{t: t, now: now, a: bfd.NewSession(1, a, now), b: bfd.NewSession(2, b, now), rand: rand.New(rand.NewPCG(1, 2))}
}

// run lets d pass.
func (p *pair) run(d time.Duration) {
	end := p.now.Add(d)
	for {
		at := earliest(p.a.Deadline(), p.b.Deadline())
		if at.IsZero() || at.After(end) {
			p.now = end
			return
		}
		p.now = at
		p.fromA(p.a.Tick(p.now, p.rand.Float64()))
		p.fromB(p.b.Tick(p.now, p.rand.Float64()))
	}
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (p *pair) fromA(packets []bfd.Packet) {
	for _, x := range packets {
		p.sentA, p.timesA = append(p.sentA, x), append(p.timesA, p.now)
		if !p.cutA {
			p.fromB(p.b.Receive(x, p.now, p.rand.Float64()))
		}
	}
}

func (p *pair) fromB(packets []bfd.Packet) {
	for _, x := range packets {
		if !p.cutB {
			p.fromA(p.a.Receive(x, p.now, p.rand.Float64()))
		}
	}
}

func (p *pair) want(a, b bfd.State) {
	p.t.Helper()
	if p.a.State() != a || p.b.State() != b {
		p.t.Fatalf("the states are %s and %s, want %s and %s", p.a.State(), p.b.State(), a, b)
	}
}

func fast(multiplier uint8) bfd.Config {
	return bfd.Config{MinTx: 50 * ms, MinRx: 50 * ms, Multiplier: multiplier}
}

// The three-way handshake needs one packet of each side's slow start.
func TestUp(t *testing.T) {
	p := newPair(t, fast(3), fast(3))
	p.run(10 * ms)
	p.want(bfd.Up, bfd.Up)
	p.run(2 * time.Second)
	if got := p.a.Detection(); got != 150*ms {
		t.Errorf("detection time %s, want 3 x 50ms", got)
	}
	if p.a.Interval() != 50*ms || p.b.Interval() != 50*ms {
		t.Errorf("intervals %s and %s", p.a.Interval(), p.b.Interval())
	}
}

// RFC 5880 section 6.8.3: at most a packet a second until the session is Up.
func TestSlowStart(t *testing.T) {
	p := newPair(t, fast(3), fast(3))
	p.cutA, p.cutB = true, true
	p.run(20 * time.Second)
	p.want(bfd.Down, bfd.Down)
	if n := len(p.sentA); n < 20 || n > 27 {
		t.Errorf("%d packets in 20s", n)
	}
	for _, x := range p.sentA {
		if x.DesiredMinTx != time.Second {
			t.Fatalf("a session that is down offers %s", x.DesiredMinTx)
		}
	}
}

func TestDetection(t *testing.T) {
	for _, mult := range []uint8{2, 3, 10} {
		p := newPair(t, fast(mult), fast(mult))
		p.run(2 * time.Second)
		p.cutB = true
		p.run(time.Duration(mult-1) * 50 * ms * 3 / 4)
		p.want(bfd.Up, bfd.Up)
		p.run(time.Duration(mult) * 50 * ms)
		p.want(bfd.Down, bfd.Up)
		p.run(time.Duration(mult) * 50 * ms)
		p.want(bfd.Down, bfd.Down) // a's packets still come, but no longer say b's discriminator
		if p.a.Diag() != bfd.TimeExpired || p.b.Diag() != bfd.TimeExpired {
			t.Errorf("x%d: diagnostics %s and %s", mult, p.a.Diag(), p.b.Diag())
		}
		p.cutB = false
		p.run(3 * time.Second)
		p.want(bfd.Up, bfd.Up)
	}
}

// RFC 5880 section 6.8.7: 75 to 100 % of the interval, with a multiplier of 1
// at most 90 %.
func TestJitter(t *testing.T) {
	for mult, most := range map[uint8]time.Duration{1: 45 * ms, 3: 50 * ms} {
		p := newPair(t, fast(mult), fast(mult))
		p.run(2 * time.Second)
		p.sentA, p.timesA = nil, nil
		p.run(10 * time.Second)
		p.want(bfd.Up, bfd.Up)
		low, high := time.Hour, time.Duration(0)
		for i := 1; i < len(p.timesA); i++ {
			gap := p.timesA[i].Sub(p.timesA[i-1])
			low, high = min(low, gap), max(high, gap)
		}
		if low < 37*ms || low > 40*ms || high > most || high < most-3*ms {
			t.Errorf("x%d: gaps from %s to %s", mult, low, high)
		}
	}
}

// A slower sender keeps its pace until the neighbour has agreed; a lost answer
// only means that it is asked again.
func TestTimersChangeByPoll(t *testing.T) {
	p := newPair(t, fast(3), fast(3))
	p.run(2 * time.Second)
	p.cutA = true
	p.sentA = nil
	p.a.Configure(bfd.Config{MinTx: 400 * ms, MinRx: 400 * ms, Multiplier: 3}, p.now)
	p.run(90 * ms)
	if got := p.a.Interval(); got != 50*ms {
		t.Errorf("sends every %s before the neighbour agreed", got)
	}
	for _, x := range p.sentA {
		if !x.Poll || x.DesiredMinTx != 400*ms {
			t.Errorf("does not ask: %+v", x)
		}
	}
	p.cutA = false
	p.run(5 * time.Second)
	p.want(bfd.Up, bfd.Up)
	if p.a.Interval() != 400*ms || p.b.Interval() != 400*ms || p.b.Detection() != 1200*ms || p.a.Detection() != 1200*ms {
		t.Errorf("after the poll: %s %s, detection %s %s", p.a.Interval(), p.b.Interval(), p.a.Detection(), p.b.Detection())
	}
	p.a.Configure(fast(3), p.now) // faster again: at once, for what a sends
	p.run(2 * time.Second)
	p.want(bfd.Up, bfd.Up)
	if p.a.Interval() != 50*ms || p.a.Detection() != 150*ms {
		t.Errorf("faster again: %s, detection %s", p.a.Interval(), p.a.Detection())
	}
	if last := p.sentA[len(p.sentA)-1]; last.Poll {
		t.Error("goes on asking")
	}
}

func TestPollIsAnswered(t *testing.T) {
	p := newPair(t, fast(3), fast(3))
	p.run(2 * time.Second)
	out := p.a.Receive(bfd.Packet{State: bfd.Up, Poll: true, DetectMult: 3, My: 2, Your: 1, RequiredMinRx: 50 * ms, DesiredMinTx: 50 * ms}, p.now, 0)
	if len(out) != 1 || !out[0].Final || out[0].Poll {
		t.Errorf("the answer to a poll is %+v", out)
	}
}

func TestPassive(t *testing.T) {
	quiet := fast(3)
	quiet.Passive = true
	p := newPair(t, quiet, quiet)
	p.run(10 * time.Second)
	if len(p.sentA) > 0 {
		t.Errorf("a passive session spoke first: %+v", p.sentA)
	}
	p = newPair(t, quiet, fast(3))
	p.run(3 * time.Second)
	p.want(bfd.Up, bfd.Up)
}

// Admin Down tells the neighbour at once, and is not a failure of the path.
func TestAdminDown(t *testing.T) {
	p := newPair(t, fast(3), fast(3))
	p.run(2 * time.Second)
	p.fromA(p.a.Disable(p.now))
	p.want(bfd.AdminDown, bfd.Down)
	if p.b.Diag() != bfd.NeighborDown || p.b.Remote() != bfd.AdminDown {
		t.Errorf("the neighbour takes it for %s, %s", p.b.Diag(), p.b.Remote())
	}
	p.run(5 * time.Second)
	p.want(bfd.AdminDown, bfd.Down)
}

// A packet that does not say our discriminator, which anybody could have made, does not
// end a session that is Up.
func TestForged(t *testing.T) {
	p := newPair(t, fast(3), fast(3))
	p.run(2 * time.Second)
	for _, state := range []bfd.State{bfd.Down, bfd.AdminDown} {
		p.fromA(p.a.Receive(bfd.Packet{State: state, DetectMult: 1, My: 9, DesiredMinTx: time.Second}, p.now, 0))
		p.run(time.Second)
		p.want(bfd.Up, bfd.Up)
	}
}

// A session that left goes on after the restart, and the neighbour notices nothing. If
// it stays away for longer than it said, the neighbour is down.
func TestLeave(t *testing.T) {
	restarts := fast(3)
	restarts.Restart = 60 * time.Second
	for name, c := range map[string]struct {
		away time.Duration
		want bfd.State
	}{"short": {50 * time.Second, bfd.Up}, "too long": {61 * time.Second, bfd.Down}} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, restarts, fast(3))
			p.run(3 * time.Second)
			p.want(bfd.Up, bfd.Up)
			p.a.Leave(p.now)
			p.run(100 * ms)
			if !p.a.Settled() || p.b.Detection() != 60*time.Second {
				t.Fatalf("settled: %t, the neighbour waits %s", p.a.Settled(), p.b.Detection())
			}
			p.cutA, p.cutB = true, true
			p.run(c.away)
			p.want(bfd.Down, c.want)
			p.cutA, p.cutB = false, false
			p.a = bfd.NewSession(1, restarts, p.now)
			p.run(3 * time.Second)
			p.want(bfd.Up, bfd.Up)
			if p.b.Detection() != 150*ms {
				t.Errorf("afterwards the neighbour waits %s", p.b.Detection())
			}
			p.cutA, p.cutB = true, true
			p.run(300 * ms)
			p.want(bfd.Down, bfd.Down)
		})
	}
}

func TestNeighborRestarts(t *testing.T) {
	p := newPair(t, fast(3), fast(3))
	p.run(2 * time.Second)
	p.b = bfd.NewSession(77, fast(3), p.now)
	p.run(3 * time.Second)
	p.want(bfd.Up, bfd.Up)
}

// A packet for another session, and what a neighbour that wants none gets.
func TestNotForUs(t *testing.T) {
	p := newPair(t, fast(3), fast(3))
	if out := p.a.Receive(bfd.Packet{State: bfd.Up, DetectMult: 1, My: 9, Your: 42}, p.now, 0); out != nil || p.a.State() != bfd.Down {
		t.Errorf("another session's packet had an effect: %s %v", p.a.State(), out)
	}
	p.a.Receive(bfd.Packet{State: bfd.Down, DetectMult: 1, My: 9, DesiredMinTx: time.Second}, p.now, 0)
	if out := p.a.Tick(p.now.Add(100*ms), 0); out != nil {
		t.Errorf("sent to a neighbour that receives nothing: %v", out)
	}
}

// What is decided does not depend on luck: random losses below the multiplier
// never take a session down, and it always comes up after them.
func TestLosses(t *testing.T) {
	p := newPair(t, fast(5), fast(5))
	p.run(2 * time.Second)
	for range 500 {
		p.cutA, p.cutB = p.rand.IntN(2) == 0, p.rand.IntN(2) == 0
		p.run(100 * ms)
		p.cutA, p.cutB = false, false
		p.run(60 * ms)
		p.want(bfd.Up, bfd.Up)
	}
}
