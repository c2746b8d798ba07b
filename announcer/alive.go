package announcer

import (
	"maps"
	"time"
)

// SilentAfter is how long an agent may be silent before its VIPs are elected
// anew. It is longer than the kernel's lease on a VIP (l2.Lease), so that an
// agent that died no longer answers when another one takes over.
const SilentAfter = 40 * time.Second

// Liveness judges which agents are alive by the renewals of their NodeStates,
// as seen on this node's own clock. While this node does not see its own
// renewals (the API server is away), every verdict stays as it was.
type Liveness struct {
	verdict map[string]bool
	since   time.Time            // from when on our own renewals came without a gap
	own     time.Time            // our own last renewal that was seen
	heard   map[string]time.Time // the renewals at the last Judge
}

// Resume starts from the verdicts of an earlier process.
func (l *Liveness) Resume(verdict map[string]bool) { l.verdict = maps.Clone(verdict) }

// Judge returns the verdicts at now. seen holds, for every node, when its last
// renewal was observed here; self is always alive. A node that was alive before
// a gap in our own renewals has SilentAfter from their return to show itself.
// One that was dead is alive again with its next renewal: that it was observed
// at all, in the first listing after a start, is none.
func (l *Liveness) Judge(self string, seen map[string]time.Time, now time.Time) map[string]bool {
	mine := seen[self]
	if mine.Sub(l.own) > SilentAfter/2 {
		l.since = mine
	}
	l.own = mine
	next := map[string]bool{}
	if blind := now.Sub(mine) > SilentAfter/2; blind {
		maps.Copy(next, l.verdict)
	}
	for node, at := range seen {
		if _, kept := next[node]; !kept {
			next[node] = l.judge(node, at, now)
		}
	}
	next[self] = true
	l.verdict, l.heard = next, maps.Clone(seen)
	return maps.Clone(next)
}

func (l *Liveness) judge(node string, at, now time.Time) bool {
	if was, known := l.verdict[node]; known && !was {
		before, heard := l.heard[node]
		return heard && at.After(before)
	}
	return now.Sub(l.since) <= SilentAfter || now.Sub(at) <= SilentAfter
}
