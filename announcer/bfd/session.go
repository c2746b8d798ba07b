package bfd

import "time"

// slow is the shortest interval between packets of a session that is not Up
// (RFC 5880 section 6.8.3).
const slow = time.Second

// Config is what one side of a session asks for.
type Config struct {
	MinTx      time.Duration // shortest interval between packets sent
	MinRx      time.Duration // shortest interval between packets received
	Multiplier uint8         // packets that may be lost
	Passive    bool          // waits for the neighbour to speak first
	// Restart is how long the neighbour should keep the session up while this side
	// restarts: see Leave. 0: not at all.
	Restart time.Duration
}

// Session is one side of a BFD session. Every method that depends on the time
// is given it, and returns the packets to send now.
type Session struct {
	cfg    Config
	my     uint32
	state  State
	diag   Diag
	remote Packet // the neighbour's last; the zero value before the first
	heard  time.Time
	known  bool // the neighbour's discriminator is known

	fresh   bool          // nothing was sent or received yet
	polling bool          // a poll sequence is under way
	tx      time.Duration // what the packets say: desired min tx
	txUsed  time.Duration // what is in force until the poll ends
	rxUsed  time.Duration // likewise, for the detection time
	sent    time.Time     // the last periodic packet
	next    time.Time     // when the next is due
}

// NewSession starts in state Down. my is the local discriminator, not 0 and
// of no other session.
//
// With a Restart the session listens for a second before it speaks. If the neighbour
// is still up with my, from before a restart, the session goes on from there.
func NewSession(my uint32, cfg Config, now time.Time) *Session {
	s := &Session{cfg: cfg, my: my, state: Down, next: now, fresh: true}
	if cfg.Restart > 0 {
		s.next = now.Add(slow)
	}
	// As RFC 5880 section 6.8.1 has it begin.
	s.remote.RequiredMinRx = time.Microsecond
	s.tx, s.txUsed, s.rxUsed = max(cfg.MinTx, slow), max(cfg.MinTx, slow), cfg.MinRx
	return s
}

// State returns the session's state.
func (s *Session) State() State { return s.state }

// Diag returns why the session left Up last.
func (s *Session) Diag() Diag { return s.diag }

// Remote returns the state that the neighbour last told; Down before it spoke.
func (s *Session) Remote() State {
	if !s.known {
		return Down
	}
	return s.remote.State
}

// Discriminator returns the local discriminator.
func (s *Session) Discriminator() uint32 { return s.my }

// Detection returns after how long without a packet the path counts as down
// (RFC 5880 section 6.8.4); 0 before the neighbour spoke.
func (s *Session) Detection() time.Duration {
	if !s.known {
		return 0
	}
	return time.Duration(s.remote.DetectMult) * max(s.rxUsed, s.remote.DesiredMinTx)
}

// Interval returns the time between two packets sent, before jitter.
func (s *Session) Interval() time.Duration { return max(s.txUsed, s.remote.RequiredMinRx) }

// Deadline returns when Tick is due at the latest.
func (s *Session) Deadline() time.Time {
	expiry := s.expiry()
	switch {
	case !s.speaks():
		return expiry
	case expiry.IsZero() || s.next.Before(expiry):
		return s.next
	}
	return expiry
}

// expiry is when the detection time will have passed; zero: no packet is missed.
func (s *Session) expiry() time.Time {
	if !s.known {
		return time.Time{}
	}
	return s.heard.Add(s.Detection())
}

// speaks reports whether periodic packets are sent (RFC 5880 section 6.8.7).
func (s *Session) speaks() bool {
	demanded := s.remote.Demand && s.state == Up && s.remote.State == Up && !s.polling
	return (!s.cfg.Passive || s.known) && s.remote.RequiredMinRx > 0 && !demanded
}

// Tick does what is due at now. jitter is a random number of [0, 1).
func (s *Session) Tick(now time.Time, jitter float64) []Packet {
	if at := s.expiry(); !at.IsZero() && !now.Before(at) {
		s.expire(now)
	}
	if !s.speaks() || now.Before(s.next) {
		return nil
	}
	s.sent, s.fresh = now, false
	s.next = now.Add(s.jittered(jitter))
	return []Packet{s.packet(s.polling, false)}
}

// jittered is the interval less 0 to 25 %, with a multiplier of 1 less 10 to
// 25 % (RFC 5880 section 6.8.7).
func (s *Session) jittered(jitter float64) time.Duration {
	span := 0.25
	if s.cfg.Multiplier == 1 {
		span = 0.15
	}
	return time.Duration(float64(s.Interval()) * (0.75 + span*jitter))
}

func (s *Session) expire(now time.Time) {
	// RFC 5880 section 6.8.1: a neighbour that comes back may have another discriminator.
	s.known = false
	if s.state == Init || s.state == Up {
		s.enter(Down, TimeExpired, now)
	}
	s.remote = Packet{RequiredMinRx: time.Microsecond}
}

// Receive takes in a packet that is meant for this session.
func (s *Session) Receive(p Packet, now time.Time, jitter float64) []Packet {
	// A neighbour that is not Up yet may not know our discriminator. While we are Up it
	// does, and one that has restarted is found by its silence: a packet that anybody
	// could have made must not end the session.
	if p.Your != s.my && (p.Your != 0 || s.state == Up) {
		return nil
	}
	s.remote, s.known, s.heard = p, true, now
	if p.Final && s.polling {
		s.polling = false
		s.settle()
	}
	if s.state == AdminDown {
		return nil
	}
	before := s.state
	if s.fresh && p.State == Up && s.cfg.Restart > 0 { // up from before our restart
		s.enter(Up, NoDiag, now)
	}
	if s.fresh { // the answer is the first packet
		s.fresh, s.sent = false, now
	}
	s.follow(p.State, now)
	s.sooner(jitter)
	var out []Packet
	switch {
	// At once, whatever the interval is (RFC 5880 section 6.8.7).
	case p.Poll:
		out = append(out, s.packet(false, true))
	case s.state != before && s.remote.RequiredMinRx > 0:
		out = append(out, s.packet(s.polling, false))
	}
	return out
}

// follow is the state machine of RFC 5880 section 6.8.6.
func (s *Session) follow(theirs State, now time.Time) {
	switch {
	case theirs == AdminDown:
		if s.state != Down {
			s.enter(Down, NeighborDown, now)
		}
	case s.state == Down && theirs == Down:
		s.enter(Init, s.diag, now)
	case s.state == Down && theirs == Init, s.state == Init && theirs >= Init:
		s.enter(Up, NoDiag, now)
	case s.state == Up && theirs == Down:
		s.enter(Down, NeighborDown, now)
	}
}

// enter changes the state and, with it, the interval that is asked for.
func (s *Session) enter(state State, diag Diag, now time.Time) {
	s.state, s.diag = state, diag
	tx := s.cfg.MinTx
	if state != Up {
		tx, s.polling = max(tx, slow), false
	}
	s.ask(tx, s.cfg.MinRx)
	if state != Up {
		s.settle()
	}
	if state == Down {
		s.next = now
	}
}

// ask changes what the packets say. While the session is Up the neighbour is
// polled, and a slower sending or faster receiving waits until it has answered
// (RFC 5880 section 6.8.3).
func (s *Session) ask(tx, rx time.Duration) {
	if s.state == Up && (tx != s.tx || rx != s.cfg.MinRx) {
		s.polling = true
	}
	s.tx, s.cfg.MinRx = tx, rx
	s.txUsed, s.rxUsed = min(s.txUsed, tx), max(s.rxUsed, rx)
}

func (s *Session) settle() { s.txUsed, s.rxUsed = s.tx, s.cfg.MinRx }

// sooner brings the next packet forward when the interval has become shorter.
func (s *Session) sooner(jitter float64) {
	if at := s.sent.Add(s.jittered(jitter)); !s.sent.IsZero() && at.Before(s.next) {
		s.next = at
	}
}

// Configure changes what this side asks for, without taking the session down.
func (s *Session) Configure(cfg Config, now time.Time) {
	s.cfg.Multiplier, s.cfg.Passive, s.cfg.MinTx, s.cfg.Restart = cfg.Multiplier, cfg.Passive, cfg.MinTx, cfg.Restart
	tx := cfg.MinTx
	if s.state != Up {
		tx = max(tx, slow)
	}
	s.ask(tx, cfg.MinRx)
	if s.state != Up {
		s.settle()
	}
	s.next = now
}

// Leave prepares for a restart: the neighbour is asked to wait for Restart until it
// misses a packet. It has agreed when Settled reports so. The caller falls silent then,
// and a Session with the same discriminator goes on. Without a Restart, or while the
// session is not Up, Leave does nothing.
func (s *Session) Leave(now time.Time) {
	if s.state != Up || s.cfg.Restart == 0 {
		return
	}
	// The neighbour waits for Multiplier of these (RFC 5880 section 6.8.4).
	s.cfg.MinTx = max(s.cfg.MinTx, s.cfg.Restart/time.Duration(s.cfg.Multiplier))
	s.ask(s.cfg.MinTx, s.cfg.MinRx)
	s.next = now
}

// Settled reports whether the neighbour knows the intervals that this side asks for.
func (s *Session) Settled() bool { return !s.polling }

// Disable takes the session to AdminDown, which the neighbour does not take for
// a broken path (RFC 5880 section 6.8.16).
func (s *Session) Disable(now time.Time) []Packet {
	s.enter(AdminDown, AdministrativeDown, now)
	if s.remote.RequiredMinRx == 0 {
		return nil
	}
	return []Packet{s.packet(false, false)}
}

func (s *Session) packet(poll, final bool) Packet {
	p := Packet{
		State: s.state, Diag: s.diag, Poll: poll, Final: final, Independent: s.cfg.Restart > 0, DetectMult: s.cfg.Multiplier, My: s.my,
		DesiredMinTx: s.tx, RequiredMinRx: s.cfg.MinRx,
	}
	if s.known {
		p.Your = s.remote.My
	}
	return p
}
