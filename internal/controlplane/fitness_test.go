package controlplane

import (
	"testing"
	"time"
)

// What the answers of a kube-apiserver make of it.
func TestFitness(t *testing.T) {
	type said struct {
		after  time.Duration
		answer Answer
		fit    bool
	}
	const ms = time.Millisecond
	for name, story := range map[string][]said{
		"it lives at the start":               {{0, Good, true}},
		"it is not there at the start":        {{0, Refused, false}, {50 * ms, Refused, false}, {time.Second, Good, false}, {FitFor, Good, true}},
		"one refusal is not believed":         {{0, Good, true}, {200 * ms, Refused, true}, {50 * ms, Good, true}, {200 * ms, Refused, true}},
		"two refusals are":                    {{0, Good, true}, {200 * ms, Refused, true}, {50 * ms, Refused, false}},
		"bad answers have to last":            {{0, Good, true}, {200 * ms, Bad, true}, {FailsFor - ms, Bad, true}, {ms, Bad, false}},
		"a good one between them counts":      {{0, Good, true}, {200 * ms, Bad, true}, {FailsFor - ms, Bad, true}, {50 * ms, Good, true}, {200 * ms, Bad, true}, {FailsFor - ms, Bad, true}},
		"it has to be well for a while again": {{0, Bad, false}, {50 * ms, Good, false}, {time.Second, Good, false}, {200 * ms, Bad, false}, {time.Second, Good, false}, {time.Second, Good, false}, {time.Second, Good, true}},
		"bad and refused in turn":             {{0, Good, true}, {200 * ms, Refused, true}, {50 * ms, Bad, true}, {50 * ms, Refused, true}, {FailsFor - 100*ms, Bad, false}},
	} {
		var f Fitness
		now := time.Unix(1000, 0)
		for i, s := range story {
			now = now.Add(s.after)
			if f = f.Next(s.answer, now); f.Fit != s.fit || !f.Known {
				t.Errorf("%s: after answer %d fit is %t, want %t", name, i+1, f.Fit, s.fit)
			}
		}
	}
}
