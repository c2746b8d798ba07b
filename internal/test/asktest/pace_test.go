package asktest

import (
	"os/exec"
	"testing"
	"time"
)

func TestLimitsAt(t *testing.T) {
	for _, tt := range []struct {
		stalled time.Duration
		want    Limits
	}{
		{0, Limits{time.Second, 500 * time.Millisecond}},
		{49 * time.Millisecond, Limits{time.Second, 500 * time.Millisecond}},
		{50 * time.Millisecond, Wide},
		{time.Minute, Wide},
	} {
		if got := LimitsAt(tt.stalled); got != tt.want {
			t.Errorf("stalled for %v: %v, want %v", tt.stalled, got, tt.want)
		}
	}
}

// TestStalls: this process is stopped for a while, and has stalled for as long.
func TestStalls(t *testing.T) {
	longest := Stalls(t)
	const stopped = 200 * time.Millisecond
	if out, err := exec.Command("sh", "-c", "kill -STOP $PPID; sleep 0.2; kill -CONT $PPID").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for end := time.Now().Add(time.Minute); longest() < stopped/2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("stalled for %v, and was stopped for %v", longest(), stopped)
		}
	}
}
