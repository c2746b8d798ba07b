package controlplane

import (
	"testing"
	"time"
)

// What the answers of a kube-apiserver make of it, on a node that holds an address and on one
// that does not.
func TestFitness(t *testing.T) {
	type said struct {
		after  time.Duration
		answer Answer
		fit    bool
	}
	const ms = time.Millisecond
	judge := func(name string, holds bool, story []said) {
		var f Fitness
		now := time.Unix(1000, 0)
		for i, s := range story {
			now = now.Add(s.after)
			if f = f.Next(s.answer, holds, now); f.Fit != s.fit || !f.Known {
				t.Errorf("%s, holds %t: after answer %d fit is %t, want %t", name, holds, i+1, f.Fit, s.fit)
			}
		}
	}
	for name, story := range map[string][]said{
		"it lives at the start":               {{0, Good, true}},
		"a refusal counts":                    {{0, Good, true}, {200 * ms, Refused, false}},
		"a bad answer counts":                 {{0, Good, true}, {200 * ms, Bad, false}},
		"it is not there at the start":        {{0, Refused, false}, {50 * ms, Refused, false}, {time.Second, Good, false}, {FitFor, Good, true}},
		"it has to be well for a while again": {{0, Bad, false}, {50 * ms, Good, false}, {time.Second, Good, false}, {200 * ms, Bad, false}, {time.Second, Good, false}, {time.Second, Good, false}, {time.Second, Good, true}},
	} {
		judge(name, false, story)
	}
	for name, story := range map[string][]said{
		"it lives at the start":          {{0, Good, true}},
		"one refusal is not believed":    {{0, Good, true}, {200 * ms, Refused, true}, {50 * ms, Good, true}, {200 * ms, Refused, true}},
		"two refusals are":               {{0, Good, true}, {200 * ms, Refused, true}, {50 * ms, Refused, false}},
		"bad answers have to last":       {{0, Good, true}, {200 * ms, Bad, true}, {FailsFor - ms, Bad, true}, {ms, Bad, false}},
		"a good one between them counts": {{0, Good, true}, {200 * ms, Bad, true}, {FailsFor - ms, Bad, true}, {50 * ms, Good, true}, {200 * ms, Bad, true}, {FailsFor - ms, Bad, true}},
		"it is fit with a good answer":   {{0, Bad, false}, {50 * ms, Good, true}, {200 * ms, Bad, true}},
		"bad and refused in turn":        {{0, Good, true}, {200 * ms, Refused, true}, {50 * ms, Bad, true}, {50 * ms, Refused, true}, {FailsFor - 100*ms, Bad, false}},
	} {
		judge(name, true, story)
	}
}
