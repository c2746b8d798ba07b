package announcer

import "time"

// The times by which a node settles.
const (
	// SettleAfter is how long a node has to be healthy before it is elected.
	SettleAfter = 60 * time.Second
	// MeetFor is how long an agent that starts waits to meet another one before
	// it takes itself for the first.
	MeetFor = 3 * time.Second
	// FrozenAfter is how long an agent has to stand still to begin its time of
	// health anew. Shorter ones are those of a busy node: the others leave it what
	// it holds for HoldFor.
	FrozenAfter = 5 * time.Second
	// isolatedFor is how long a node tells the others that it was cut off.
	isolatedFor = 10 * time.Second
)

// Settling is whether a node may be elected. Every node decides it for itself
// and tells the others, so that all elections agree. The zero value is an agent
// that starts.
type Settling struct {
	Settled  bool
	Seasoned bool // has been settled for SettleAfter
	Isolated bool // see Report
	healthy  time.Time
	settled  time.Time
	guarded  time.Time // when the guard was last seen
	woke     time.Time // when it last stood still among others
	began    time.Time
}

// Around is what a node sees when it asks itself whether it is settled.
type Around struct {
	Now     time.Time
	InSync  bool
	Stood   time.Duration // for how long the agent stood still just before Now
	Guarded bool          // View.Guarded
	Met     bool          // another agent was heard, or there is none to meet
	// Restarted is what others remember of this node, if they remember it
	// settled, on this boot, silent for less than HoldFor, and its kernel not gone
	// meanwhile.
	Restarted *Report
	// Booted says that others know this node to have been without power until just
	// now: for PodsAfter what the cluster shows of its pods is from before.
	Booted bool
	// Others counts the seasoned candidates among the other nodes, InTouch the
	// settled ones that speak and have not been cut off themselves.
	Others, InTouch int
}

// Next is the decision at a.Now. A healthy node settles after SettleAfter; at
// once if its agent only restarted, or if nobody is seasoned (all start
// together, or it is alone; after a standstill it hears for MeetFor how the others
// are by now). It is unsettled by its own failure, by having
// stood still, and by coming back to a majority that went on without it.
func (s Settling) Next(a Around) Settling {
	if s.began.IsZero() {
		s.began = a.Now
	}
	if a.Guarded {
		s.guarded = a.Now
	}
	s.Isolated = !s.guarded.IsZero() && a.Now.Sub(s.guarded) < isolatedFor
	rejoined := s.Isolated && !a.Guarded && a.InTouch > 0
	if !a.InSync || a.Stood >= FrozenAfter || rejoined {
		s.healthy, s.Settled, s.Seasoned = time.Time{}, false, false
	}
	if a.Stood >= FrozenAfter && a.InTouch > 0 {
		s.woke = a.Now
	}
	if rejoined {
		s.guarded, s.Isolated = time.Time{}, false
	}
	if !a.InSync {
		return s
	}
	if s.healthy.IsZero() {
		s.healthy = a.Now
	}
	heard := s.woke.IsZero() || a.Now.Sub(s.woke) >= MeetFor
	first := a.Others == 0 && heard && !a.Booted && (a.Met || a.Now.Sub(s.began) >= MeetFor)
	if !s.Settled && (a.Restarted != nil || first || a.Now.Sub(s.healthy) >= SettleAfter) {
		s.Settled, s.settled = true, a.Now
		if a.Restarted != nil && a.Restarted.Seasoned {
			s.settled = a.Now.Add(-SettleAfter)
		}
	}
	s.Seasoned = s.Settled && a.Now.Sub(s.settled) >= SettleAfter
	return s
}
