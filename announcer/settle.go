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
	// health again. Shorter ones are those of a busy node: the others leave it what
	// it holds for HoldFor.
	FrozenAfter = 5 * time.Second
	// isolatedFor is how long a node tells the others that it was cut off.
	isolatedFor = 10 * time.Second
)

// SettleState is whether a node may be elected. Every node decides it for itself
// and tells the others, so that all elections agree. The zero value is an agent
// that starts.
type SettleState struct {
	Settled      bool
	LongSettled  bool // has been settled for SettleAfter
	Isolated     bool // see Report
	healthySince time.Time
	settledAt    time.Time
	cutOffAt     time.Time // when this node was last cut off
	stoodStillAt time.Time // when it last stood still among others
	startedAt    time.Time
}

// SettleInput is what a node sees when it asks itself whether it is settled.
type SettleInput struct {
	Now        time.Time
	InSync     bool
	StoodStill time.Duration // for how long the agent stood still just before Now
	CutOff     bool          // View.CutOff
	// Lost says that the others did not get an answer from this node's kernel, and have
	// taken over what it held.
	Lost bool
	Met  bool // another agent was heard, or the cluster has no other
	// Restarted is what others remember of this node, if they remember it
	// settled, on this boot, silent for less than HoldFor, and its kernel not gone
	// meanwhile.
	Restarted *Report
	// Booted says that others know this node to have been without power until just
	// now: for PodsAfter what the cluster shows of its pods is from before.
	Booted bool
	// OthersLongSettled counts the candidates among the other nodes whose Report says
	// LongSettled. OthersInTouch counts the settled ones that speak and have not been
	// cut off themselves.
	OthersLongSettled, OthersInTouch int
}

// Next is the decision at a.Now. A healthy node settles after SettleAfter; at
// once if its agent only restarted, or if nobody is long settled (all start
// together, or it is alone; after a standstill it hears for MeetFor how the others
// are by now). It is unsettled by its own failure, by having
// stood still, and by coming back to others that went on without it.
func (s SettleState) Next(a SettleInput) SettleState {
	if s.startedAt.IsZero() {
		s.startedAt = a.Now
	}
	if a.CutOff {
		s.cutOffAt = a.Now
	}
	// Also for a while after it: another node that was cut off would take this one for one of those
	// that went on.
	s.Isolated = !s.cutOffAt.IsZero() && a.Now.Sub(s.cutOffAt) < isolatedFor
	// While this node was cut off the others went on and took over what it had: it waits
	// before it gets any of that back.
	rejoined := s.Isolated && !a.CutOff && a.OthersInTouch > 0
	// What just failed may fail again. Standstills shorter than FrozenAfter do not count: busy
	// nodes have them, and each would cost a node its addresses.
	if !a.InSync || a.StoodStill >= FrozenAfter || rejoined || a.Lost {
		s.healthySince, s.Settled, s.LongSettled = time.Time{}, false, false
	}
	// In the first minute of a cluster nobody is long settled. A node that stood still then
	// would take itself for one of the first, although others already took over from it.
	if a.Lost || a.StoodStill >= FrozenAfter && a.OthersInTouch > 0 {
		s.stoodStillAt = a.Now
	}
	// Once, or the 60 s would begin again with every call for isolatedFor.
	if rejoined {
		s.cutOffAt, s.Isolated = time.Time{}, false
	}
	if !a.InSync {
		return s
	}
	if s.healthySince.IsZero() {
		s.healthySince = a.Now
	}
	// What the others said while it stood still has not been read yet.
	heard := s.stoodStillAt.IsZero() || a.Now.Sub(s.stoodStillAt) >= MeetFor
	// A node that booted waits in a young cluster too: for PodsAfter the cluster shows the pods
	// that died with it, and its address would lead to these.
	first := a.OthersLongSettled == 0 && heard && !a.Booted && (a.Met || a.Now.Sub(s.startedAt) >= MeetFor)
	// An upgrade restarts every agent, and must move nothing.
	if !s.Settled && (a.Restarted != nil || first || a.Now.Sub(s.healthySince) >= SettleAfter) {
		s.Settled, s.settledAt = true, a.Now
		// The others saw no gap: their elections must find the standing that the node had.
		if a.Restarted != nil && a.Restarted.LongSettled {
			s.settledAt = a.Now.Add(-SettleAfter)
		}
	}
	s.LongSettled = s.Settled && a.Now.Sub(s.settledAt) >= SettleAfter
	return s
}
