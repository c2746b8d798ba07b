package proxy

import (
	"testing"
	"time"
)

// spec 79: a timeout is never shorter than what was asked for, at most three times as
// long, and one of few.
func TestAffinityTimeout(t *testing.T) {
	different := map[time.Duration]bool{}
	for asked := time.Second; asked <= 24*time.Hour; asked += time.Second {
		got := AffinityTimeout(asked)
		different[got] = true
		if got < asked || got > 3*asked || AffinityTimeout(got) != got {
			t.Errorf("%s: %s", asked, got)
		}
	}
	if len(different) > 16 {
		t.Errorf("%d different timeouts", len(different))
	}
	for asked, want := range map[time.Duration]time.Duration{
		-time.Second: 0, 0: 0, time.Millisecond: time.Second, 3 * time.Hour: 3 * time.Hour, 48 * time.Hour: 24 * time.Hour,
		125 * time.Second: 125 * time.Second, // Kubernetes' test of a timeout waits 5 s more
	} {
		if got := AffinityTimeout(asked); got != want {
			t.Errorf("%s: %s, want %s", asked, got, want)
		}
	}
}
