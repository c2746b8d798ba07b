package far

import (
	"time"

	"github.com/fairlead/fairlead/internal/direct"
)

// Times.
const (
	// tick is the time from a question to what is made of its answers.
	tick = time.Second
	// restFor is the time between two questions if nothing is in doubt.
	restFor = 30 * time.Second
	// lostRounds is how many questions one after the other are not answered, or with less, before
	// a way is taken to carry nothing from the start, or less. Packets may be lost.
	lostRounds = 3
	// hastyRounds is how many questions in a row nobody answers before they come seldom, and a way
	// that was there is taken to have ended. An agent that dies does not answer either, and the
	// gossip says so before.
	hastyRounds = 10
)

// target is an address of a node of another subnet, and what is known of the way to it. The zero
// value has not been asked.
type target struct {
	route  direct.Way     // as this node's routes say; link 0: none by one of its links
	proven int            // length of the longest packets that get there; 0: none do
	missed int            // questions in a row that were not answered, or with less
	due    time.Time      // of the next question
	asked  map[uint64]int // lengths of the question that is out, by nonce
	best   int            // the longest that was answered
	mute   bool           // its agent does not speak
}

// way returns what packets take to the target, false if they do not get there.
func (t *target) way() (direct.Way, bool) {
	w := t.route
	w.MTU = min(w.MTU, t.proven)
	return w, w.Link != 0 && t.proven > 0
}

// judge takes in what was answered by now.
func (t *target) judge(now time.Time) {
	if t.asked == nil {
		return
	}
	enough := lostRounds
	if t.best == 0 {
		enough = hastyRounds
	}
	switch {
	case t.best >= t.proven && t.best > 0:
		t.proven, t.missed = t.best, 0
	case t.mute:
		t.missed = 0
	default:
		if t.missed++; t.missed < enough {
			break
		}
		if t.proven = t.best; t.best > 0 {
			t.missed = 0
		}
	}
	t.due = now
	if t.missed == 0 || t.missed >= hastyRounds {
		t.due = now.Add(restFor - tick)
	}
	t.asked, t.best = nil, 0
}
