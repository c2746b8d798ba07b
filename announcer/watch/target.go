package watch

import (
	"math"
	"time"
)

// How many rounds a target has to miss.
const (
	fewestRounds = 3
	mostRounds   = int(time.Second / Interval)
	// timesAgain is how many questions a round asks of a target that missed the one
	// before. Chance then loses a round only if it loses all of them.
	timesAgain = 5
	// tolerance is the logarithm of the chance that a target which answers misses as
	// many questions as make it missed: once in 20 million.
	tolerance = -17
	// enoughAnswers is how many rounds a target has to answer before its silence means
	// anything. Some kernels are told not to answer (arp_ignore=8).
	enoughAnswers = 20
	// tiredAfter is how many rounds a target is missed until it is asked rarely only.
	tiredAfter = 10 * mostRounds
	// hopeless is a loss at which silence means nothing.
	hopeless = 0.9
	// rememberRun is how long the longest silence that ended is remembered.
	rememberRun = time.Minute
)

// The weights of one question in the two means of the loss. The fast one follows a network
// that becomes bad, and the slow one remembers that it was. A fresh target is expected to be
// a bad one.
const (
	fast, slow  = 1.0 / 20, 1.0 / 400
	unknownLoss = 0.5
)

// target is what is known of one Target.
type target struct {
	asked      int       // questions of the open round
	askedAt    time.Time // when it was opened
	answered   bool      // in the open round
	answeredAt time.Time // last
	doubted    time.Time // since when another node doubts it and had no word of an answer; else zero

	answers    int // rounds so far, up to enoughAnswers
	run        int // rounds missed in a row
	unanswered int // questions in them
	longest    int // the longest run that an answer ended, within rememberRun
	longestAt  time.Time
	recent     float64 // share of questions that were not answered, before run
	usual      float64

	lost     bool
	saidLost time.Time // last
	found    int       // rounds answered in a row since it was lost
}

func newTarget() *target { return &target{recent: unknownLoss} }

// close ends the open round, and reports whether there was one.
func (t *target) close(late bool, now time.Time) bool {
	asked, answered := t.asked, t.answered
	t.asked, t.answered = 0, false
	switch {
	case asked == 0 || !answered && late:
	case !answered:
		t.run, t.unanswered, t.found = t.run+1, t.unanswered+asked, 0
	default:
		t.endRun(now)
		t.answers = min(t.answers+1, enoughAnswers)
		t.count(false)
		if t.found++; t.lost && t.found >= int(FoundAfter/Interval) {
			t.lost = false
		}
	}
	return asked > 0
}

// endRun takes in that an answer came: what was missed before was loss, or a pause. A
// target that was silent for longer may be another machine by now: it begins as a fresh one.
func (t *target) endRun(now time.Time) {
	if t.run >= mostRounds {
		t.answers, t.recent, t.usual, t.longest = 0, unknownLoss, 0, 0
		t.run, t.unanswered = 0, 0
		return
	}
	if t.run >= t.longest || now.Sub(t.longestAt) > rememberRun {
		t.longest, t.longestAt = t.run, now
	}
	for range t.unanswered {
		t.count(true)
	}
	t.run, t.unanswered = 0, 0
}

// count takes one question into the means.
func (t *target) count(missed bool) {
	one := 0.0
	if missed {
		one = 1
	}
	t.recent += fast * (one - t.recent)
	t.usual += slow * (one - t.usual)
}

// open begins a round and returns how many times to ask. A target that is long gone is
// rarely asked, as switches send frames for it to everybody. One that answers others is not.
func (t *target) open(now time.Time, vouched bool) int {
	if t.run >= tiredAfter && !vouched && now.Sub(t.askedAt) < time.Second {
		return 0
	}
	t.asked, t.askedAt = 1, now
	if t.run > 0 && t.run < mostRounds && t.known() {
		t.asked = timesAgain
	}
	return t.asked
}

// lose makes t lost. What it did before says nothing about the time after.
func (t *target) lose() {
	t.lost, t.found, t.run, t.answers = true, 0, mostRounds, 0
}

// answersAt reports whether t answered within the last rounds.
func (t *target) answersAt(now time.Time) bool {
	return !t.lost && t.run == 0 && !t.answeredAt.IsZero() && now.Sub(t.answeredAt) <= 2*fewestRounds*Interval
}

// known reports whether the silence of t means anything.
func (t *target) known() bool { return t.answers >= enoughAnswers }

// enough reports whether t misses so many rounds that it is not chance.
func (t *target) enough() bool {
	return t.known() && t.loss() < hopeless && t.run >= t.need()
}

// loss is the share of questions that t did not answer while it was there.
func (t *target) loss() float64 { return max(t.recent, t.usual) }

// need is how many rounds t has to miss. It grows with the loss, and with the longest
// silence that t came back from: a machine that pauses does so again.
func (t *target) need() int {
	least := fewestRounds
	if t.longest > 1 {
		least += t.longest
	}
	questions := tolerance / math.Log(max(t.loss(), 1e-6))
	// The first round that is missed had one question, each of those after it timesAgain.
	rounds := 1 + int(math.Ceil((questions-1)/timesAgain))
	return min(max(rounds, least), mostRounds)
}
