package agent

import (
	"testing"

	"github.com/fairlead/fairlead/internal/test/layertest"
)

func TestMonotonic(t *testing.T) {
	const shown = "shown to people, and compared with nothing"
	layertest.Monotonic(t, map[string]string{
		"bgpMetrics.Collect": shown, "peerState": shown, "Agent.sinceWritten": shown, "sysctls.found": shown,
	})
}
