package announcer_test

import (
	"testing"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// In every story what Judge says of the nodes is what Decide acts on: the owner
// can be elected, and if nobody could nobody is.
func TestJudgeAgreesWithDecide(t *testing.T) {
	storytest.Each(t, func(t *testing.T, s *storytest.Story) {
		world := storytest.NewWorld()
		for _, sec := range s.Sections {
			if sec.Name != "cluster" && sec.Name != "then" {
				continue
			}
			if err := world.Do(sec.Text); err != nil {
				t.Fatal(err)
			}
			in := announcer.Input{Snapshot: snapshotOf(t, world), Alive: world.Alive()}
			for _, r := range announcer.Decide(in).Refused {
				fit := map[string]bool{}
				for _, j := range announcer.Judge(in, r.Addr) {
					if j.Unfit == "" {
						fit[j.Node] = true
					}
				}
				if r.Owner != "" && !fit[r.Owner] || r.Reason == announcer.NoCandidate && len(fit) > 0 {
					t.Errorf("%s: %q is elected (%s), and those who can be are %v", r.Addr, r.Owner, r.Refusal, fit)
				}
			}
		}
	})
}
