package watch

import "time"

// LastAnswer returns when the kernel of node answered last, on any link; zero if it is not
// asked or never answered.
func (w *Watch) LastAnswer(node string) (last time.Time) {
	for at, t := range w.targets {
		if at.Node == node && t.answeredAt.After(last) {
			last = t.answeredAt
		}
	}
	return last
}
