package charts_test

import (
	"strings"
	"testing"
)

// The agents may listen on port 179 where a user wants that, and nowhere else.
func TestPassive(t *testing.T) {
	for value, want := range map[string]bool{"false": false, "true": true} {
		out := mustHelm(t, "template", "fairlead", chart, "--set", "bgp.passive="+value)
		if got := strings.Contains(out, "- NET_BIND_SERVICE"); got != want {
			t.Errorf("bgp.passive=%s: NET_BIND_SERVICE is there: %v", value, got)
		}
	}
}
