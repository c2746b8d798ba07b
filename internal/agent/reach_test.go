package agent

import (
	"testing"

	"github.com/fairlead/fairlead/announcer/watch"
)

// A node that was lost on a link, and is no longer, may have announced anything meanwhile.
func TestFound(t *testing.T) {
	b, c := []watch.Target{{Node: "b", Link: "eth0"}}, []watch.Target{{Node: "c", Link: "eth0"}}
	for name, tt := range map[string]struct {
		was, now []watch.Target
		want     bool
	}{
		"nobody was lost":            {nil, b, false},
		"it is found":                {b, nil, true},
		"it is still lost":           {b, b, false},
		"it is back, another is not": {b, c, true},
	} {
		if got := found(tt.was, tt.now); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
