package watch

import (
	"testing"
	"time"
)

// The last answer is that on any link, and stays when the node is lost.
func TestLastAnswer(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	var w Watch
	one, other := Target{Node: "a", Link: "eth0"}, Target{Node: "a", Link: "eth1"}
	w.Follow([]Target{one, other, {Node: "b", Link: "eth0"}})
	w.Answered(one, now)
	w.Answered(other, now.Add(-time.Second))
	w.targets[one].lose()
	w.Round(now.Add(time.Second))
	if got := w.LastAnswer("a"); !got.Equal(now) {
		t.Errorf("a answered last at %v", got)
	}
	if got := w.LastAnswer("b"); !got.IsZero() {
		t.Errorf("b answered at %v", got)
	}
}
