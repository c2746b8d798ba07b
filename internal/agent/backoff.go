package agent

import "time"

// The limits of a backoff's pauses, and how long after one nothing has to happen until
// the next is the shortest again.
const (
	minPause = 50 * time.Millisecond
	maxPause = 10 * time.Second
	calm     = 10 * time.Second
)

// backoff spaces the repairs of what somebody else keeps changing. The first one waits
// for nothing. The pauses after it double, and are as long as a repair takes. So a
// program that fights for the engine's tables can neither keep the node busy nor fill
// its log.
type backoff struct {
	pause time.Duration
	until time.Time // the end of the pause
}

// repaired begins a pause at time now, after a repair that began at time began.
func (b *backoff) repaired(began, now time.Time) {
	if now.Sub(b.until) > calm {
		b.pause = minPause
	} else {
		b.pause = min(max(2*b.pause, now.Sub(began)), maxPause)
	}
	b.until = now.Add(b.pause)
}
