package observe_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/observe"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

var (
	head = regexp.MustCompile(`^# \S`)
	noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC) // of the day in the stories
)

// TestStories tells every file in testdata to Observe. A "cluster" or "then" section
// changes what is in the cluster and what the nodes say of it; "want" is what that
// means.
func TestStories(t *testing.T) {
	storytest.Each(t, func(t *testing.T, s *storytest.Story) {
		if !head.MatchString(s.Comment) {
			t.Fatal("a story begins with a comment that says what it shows")
		}
		world := storytest.NewWorld()
		for _, sec := range s.Sections {
			switch sec.Kind() {
			case "cluster", "then":
				if err := world.Do(sec.Text); err != nil {
					t.Fatal(err)
				}
			case "want":
				in, err := world.Snapshot()
				if err != nil {
					t.Fatal(err)
				}
				sec.Want(t, observe.Observe(in, noon).String())
			default:
				t.Fatalf("no section %q", sec.Name)
			}
		}
	})
}
