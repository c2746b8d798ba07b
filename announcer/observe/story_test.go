package observe_test

import (
	"flag"
	"regexp"
	"testing"

	"github.com/fairlead/fairlead/announcer/observe"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

var update = flag.Bool("update", false, "write what came out into the stories")

var head = regexp.MustCompile(`^# \S`)

// TestStories tells every file in testdata to Observe. A "cluster" or "then" section
// changes what is in the cluster and what the nodes say of it; "want" is what that
// means.
func TestStories(t *testing.T) {
	storytest.Each(t, *update, func(t *testing.T, s *storytest.Story) {
		if !head.MatchString(s.Comment) {
			t.Fatal("a story begins with a comment that says what it shows")
		}
		world := storytest.NewWorld()
		for _, sec := range s.Sections {
			switch sec.Name {
			case "cluster", "then":
				if err := world.Do(sec.Text); err != nil {
					t.Fatal(err)
				}
			case "want":
				in, err := world.Snapshot()
				if err != nil {
					t.Fatal(err)
				}
				got := observe.Observe(in).String()
				if got != sec.Text && !*update {
					t.Errorf("wanted\n%s-- got --\n%s", sec.Text, got)
				}
				sec.Text = got
			default:
				t.Fatalf("no section %q", sec.Name)
			}
		}
	})
}
