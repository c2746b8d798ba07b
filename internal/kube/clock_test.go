package kube

import (
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/test/layertest"
)

func TestMonotonic(t *testing.T) {
	layertest.Monotonic(t, map[string]string{
		"HeadOf":       "the controller's clock: an agent whose own is another follows the Nodes themselves",
		"toRosterPart": "see HeadOf",
		"triggerTime":  "measured, and nothing is decided by it",
	})
}

// TestHeard: the time of the last word of the API server goes by the monotonic clock, so a
// clock that is set is not silence.
func TestHeard(t *testing.T) {
	s := NewStore(&Clients{}, func() {})
	if at := s.Heard(); !at.IsZero() {
		t.Errorf("heard at %s, before anything was", at)
	}
	s.hear()
	if at := s.Heard(); !strings.Contains(at.String(), " m=") || time.Since(at) > time.Minute {
		t.Errorf("heard at %s, want now, with the monotonic clock", at)
	}
}
