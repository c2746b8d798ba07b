// Package watch decides which nodes no longer answer on a link, from questions that
// their kernels answer. It has no clock and no socket: it takes in what was asked, what
// was answered and what other nodes say, and returns what to ask and to say.
package watch

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// The times of a Watch.
const (
	// Interval is the time between two rounds. A round asks each target.
	Interval = 25 * time.Millisecond
	// FoundAfter is how long a lost target has to answer every round before it is
	// lost no longer.
	FoundAfter = 2 * time.Second
	// agreeFor is how long a word of another node that misses a target counts. Each
	// repeats it every round, and a few words may be lost.
	agreeFor = 4 * Interval
	// vetoFor is how long the word of a node that got an answer counts.
	vetoFor = 10 * Interval
	// lostFor is how long a word that a target is lost counts.
	lostFor = 3 * time.Second
	// repeatLost is how often a lost target is called so.
	repeatLost = 10 * Interval
	// HeardFor is how long a frame proves that this node hears on a link.
	HeardFor = time.Second
)

// Target is a node to ask on a link.
type Target struct {
	Node string
	Link string // of the node that asks
}

// Compare orders Targets by node, then link.
func (t Target) Compare(o Target) int {
	return cmp.Or(strings.Compare(t.Node, o.Node), strings.Compare(t.Link, o.Link))
}

// Say is what a Word says of a node.
type Say uint8

// What is said. The numbers are those on the wire.
const (
	Doubts  Say = iota + 1 // the node missed a round of the speaker, which may be chance
	Misses                 // it missed so many that this is not chance
	Answers                // it answered the speaker after somebody had doubted it
	Lost                   // two nodes agreed that it does not answer
)

func (s Say) String() string { return [...]string{"?", "doubts", "misses", "answers", "lost"}[s] }

// Word is what this node says of a Target to all nodes on its link.
type Word struct {
	Target
	Say Say
}

// Question is a Target to ask, this many times.
type Question struct {
	Target
	Times int
}

// Watch judges targets. The zero value watches nothing. It is not safe for concurrent use.
type Watch struct {
	due     time.Time // of the next round
	targets map[Target]*target
	told    map[Target]map[string]told // by who told it
	heard   map[string]time.Time       // by link, the last frame of a host that is not missed
	words   []Word                     // to say
}

type told struct {
	say Say
	at  time.Time
}

// Follow makes targets those to ask. What is known of a target that stays is kept.
func (w *Watch) Follow(targets []Target) {
	was := w.targets
	w.targets = make(map[Target]*target, len(targets))
	for _, at := range targets {
		w.targets[at] = was[at]
		if w.targets[at] == nil {
			w.targets[at] = newTarget()
		}
	}
}

// Round ends the last round and begins one at time now. All answers that have come in
// must have been given to Answered before. A round that began more than Interval late
// says nothing about those who did not answer: this machine may have stood still, with
// the answers.
func (w *Watch) Round(now time.Time) (ask []Question) {
	late := now.Sub(w.due) > Interval
	w.due = w.due.Add(Interval)
	// After a standstill the rounds that were missed do not follow in a burst.
	if late || w.due.Before(now) {
		w.due = now.Add(Interval)
	}
	for _, at := range slices.SortedFunc(maps.Keys(w.targets), Target.Compare) {
		t := w.targets[at]
		if t.close(late, now) {
			w.judge(at, t, now)
		}
		if times := t.open(now, w.vouched(at, now)); times > 0 {
			ask = append(ask, Question{at, times})
		}
	}
	w.forget(now)
	return ask
}

// Due returns when the next round begins. It is zero before the first.
func (w *Watch) Due() time.Time { return w.due }

// Answered takes in that the kernel of at answered at time now.
func (w *Watch) Answered(at Target, now time.Time) {
	t := w.targets[at]
	if t == nil {
		return
	}
	t.answered, t.answeredAt = true, now
	if t.lost && t.run > 0 {
		t.saidLost = now // it is back, and does not know yet what it missed
		w.words = append(w.words, Word{at, Lost})
	}
	// Only an answer to what was asked since contradicts the one who doubts: the target
	// may have died in between.
	if !t.doubted.IsZero() && !t.askedAt.Before(t.doubted) {
		t.doubted = time.Time{}
		w.words = append(w.words, Word{at, Answers})
	}
}

// Told takes in what node from said of at.
func (w *Watch) Told(from string, at Target, say Say, now time.Time) {
	if w.told == nil {
		w.told = map[Target]map[string]told{}
	}
	if w.told[at] == nil {
		w.told[at] = map[string]told{}
	}
	w.told[at][from] = told{say, now}
	t := w.targets[at]
	if t == nil {
		return
	}
	if (say == Doubts || say == Misses) && t.doubted.IsZero() {
		t.doubted = now // the first one: the others come faster than answers
	}
	// At once: a failover may have waited for this word alone.
	w.conclude(at, t, now)
}

// Heard takes in that a frame of a host that is not missed came in on a link.
func (w *Watch) Heard(link string, now time.Time) {
	if w.heard == nil {
		w.heard = map[string]time.Time{}
	}
	w.heard[link] = now
}

// LastHeard returns when this node heard a host on link last; zero: never.
func (w *Watch) LastHeard(link string) time.Time { return w.heard[link] }

// Listens reports whether this node has to listen on link, to go on hearing.
func (w *Watch) Listens(link string, now time.Time) bool {
	return now.Sub(w.heard[link]) > HeardFor/2
}

// Words returns what to say now, and forgets it.
func (w *Watch) Words() []Word {
	out := w.words
	w.words = nil
	return out
}

// judge says what this node holds of a target, and concludes.
func (w *Watch) judge(at Target, t *target, now time.Time) {
	switch {
	case t.lost:
		if now.Sub(t.saidLost) >= repeatLost {
			t.saidLost = now
			w.words = append(w.words, Word{at, Lost})
		}
	case t.enough():
		w.words = append(w.words, Word{at, Misses})
	case t.run > 0 && t.known():
		w.words = append(w.words, Word{at, Doubts})
	}
	w.conclude(at, t, now)
}

// conclude calls a target lost that this node and another one miss, and that answers
// nobody who asks. That other node's word came in on the link: so this node hears.
func (w *Watch) conclude(at Target, t *target, now time.Time) {
	if t.lost || !t.enough() || w.vouched(at, now) {
		return
	}
	for _, said := range w.told[at] {
		if (said.say == Misses || said.say == Lost) && now.Sub(said.at) <= agreeFor {
			t.lose()
			w.words = append(w.words, Word{at, Lost})
			return
		}
	}
}

// vouched reports whether another node said just now that at answers it.
func (w *Watch) vouched(at Target, now time.Time) bool {
	for _, said := range w.told[at] {
		if said.say == Answers && now.Sub(said.at) <= vetoFor {
			return true
		}
	}
	return false
}

// Lost returns the nodes that do not answer on a link, sorted: two nodes agreed. It may name
// this node. A node that gets answers believes the others all the same, as the lost one
// does: all have to come to the same owner. But it believes two of them, who both say so,
// not one: that one may be in the hands of somebody else.
func (w *Watch) Lost(now time.Time) (out []Target) {
	for at, t := range w.targets {
		if t.lost {
			out = append(out, at)
		}
	}
	for at, by := range w.told {
		witnesses := 0
		for _, said := range by {
			if said.say == Lost && now.Sub(said.at) <= lostFor {
				witnesses++
			}
		}
		// What this node misses itself counts as one word more.
		if t := w.targets[at]; t != nil && t.enough() {
			witnesses++
		}
		if witnesses >= 2 {
			out = append(out, at)
		}
	}
	slices.SortFunc(out, Target.Compare)
	return slices.Compact(out)
}

// Answering returns the targets that answered within the last rounds, this node or another
// one, sorted.
func (w *Watch) Answering(now time.Time) (out []Target) {
	for at, t := range w.targets {
		if t.answersAt(now) || !t.lost && w.vouched(at, now) {
			out = append(out, at)
		}
	}
	slices.SortFunc(out, Target.Compare)
	return out
}

// Missed reports whether at did not answer lately.
func (w *Watch) Missed(at Target) bool {
	t := w.targets[at]
	return t != nil && (t.run > 0 || t.lost)
}

// Doubtful returns the links on which a target is missed, sorted. Whether this node hears
// there is about to be of interest.
func (w *Watch) Doubtful() (links []string) {
	for at, t := range w.targets {
		if t.run > 0 && t.known() || t.lost {
			links = append(links, at.Link)
		}
	}
	slices.Sort(links)
	return slices.Compact(links)
}

// forget drops the words that count for nothing any more.
func (w *Watch) forget(now time.Time) {
	for at, by := range w.told {
		maps.DeleteFunc(by, func(_ string, said told) bool { return now.Sub(said.at) > lostFor })
		if len(by) == 0 {
			delete(w.told, at)
		}
	}
}
