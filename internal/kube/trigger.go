package kube

import "time"

// mostTriggers is how many triggers a Builder keeps until they are asked for; the oldest
// go first.
const mostTriggers = 1000

// Triggers returns when the pods or Services changed that made the values of
// Snapshots since the last call differ in their endpoints, and forgets it. The
// times are beside the values and not in them: a slice that is only written again
// leaves its Service the value that it was.
func (b *Builder) Triggers() []time.Time {
	out := b.triggers
	b.triggers = nil
	return out
}

// triggerTime reads the time that the endpoint slice controller notes; zero if there
// is none.
func triggerTime(text string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return at
}
