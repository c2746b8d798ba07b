// Package explain says, step by step, why a Service can be reached from outside
// or why it cannot. It decides nothing of its own: every verdict is that of
// allocator.Decide, announcer.Decide or proxy.Compile, or what an agent says.
package explain

import (
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Mark is the verdict on one Step.
type Mark string

// The marks.
const (
	OK     Mark = "ok"
	Failed Mark = "failed"
	Note   Mark = "note" // neither: something to know, or not come to yet
)

// Step is one thing that must be so for a Service to be reached, and whether it
// is. Next is what to do if it is not.
type Step struct {
	Name    string `json:"name,omitempty"`
	Mark    Mark   `json:"mark"`
	Text    string `json:"text"`
	Next    string `json:"next,omitempty"`
	Details []Step `json:"details,omitempty"` // verdicts on pools, nodes and the like; failing ones fail nothing
}

// Trace is everything that explain says about one Service.
type Trace struct {
	Service snapshot.Ref `json:"-"`
	Title   string       `json:"title"`
	Steps   []Step       `json:"steps"`
	Verdict string       `json:"verdict"` // in a sentence
	Next    string       `json:"next"`    // the one thing to do
}

// Failed returns the first step that failed, or nil.
func (t *Trace) Failed() *Step {
	i := slices.IndexFunc(t.Steps, func(s Step) bool { return s.Mark == Failed })
	if i < 0 {
		return nil
	}
	return &t.Steps[i]
}
