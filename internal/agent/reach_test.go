package agent

import (
	"testing"

	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/announcer/watch"
)

// A node that was missed on a link, and is no longer, may have announced anything meanwhile.
func TestMissed(t *testing.T) {
	b, c := []watch.Target{{Node: "b", Link: "eth0"}}, []watch.Target{{Node: "c", Link: "eth0"}}
	for name, tt := range map[string]struct {
		was, now l2.Seen
		want     bool
	}{
		"nobody was missed":          {l2.Seen{}, l2.Seen{Silent: b}, false},
		"it answers again":           {l2.Seen{Silent: b}, l2.Seen{}, true},
		"it is found":                {l2.Seen{Lost: b}, l2.Seen{}, true},
		"two nodes miss it now":      {l2.Seen{Silent: b}, l2.Seen{Lost: b}, false},
		"it is back, another is not": {l2.Seen{Silent: b}, l2.Seen{Silent: c}, true},
	} {
		if got := missed(tt.was, tt.now); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
