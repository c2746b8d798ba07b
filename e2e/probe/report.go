package probe

import (
	"maps"
	"math"
	"slices"
	"time"
)

// Report sums up a probe. The times are of the requests that were answered.
type Report struct {
	Target   string         `json:"target"`
	Requests int            `json:"requests"`
	Failures int            `json:"failures"`
	Reasons  map[string]int `json:"reasons,omitempty"` // failures by kind
	Pods     map[string]int `json:"pods"`              // answers by pod
	Distinct int            `json:"distinct"`          // pods that answered
	Clients  []string       `json:"clients"`           // client addresses that the pods saw
	P50      float64        `json:"p50_ms"`
	P99      float64        `json:"p99_ms"`
}

// Summarise counts the outcomes.
func Summarise(target string, all []Outcome) Report {
	r := Report{Target: target, Requests: len(all), Reasons: map[string]int{}, Pods: map[string]int{}}
	clients := map[string]bool{}
	var took []time.Duration
	for _, o := range all {
		if o.Err != nil {
			r.Failures++
			r.Reasons[reason(o.Err)]++
			continue
		}
		r.Pods[o.Answer.Pod]++
		clients[o.Answer.Client] = true
		took = append(took, o.Took)
	}
	r.Distinct = len(r.Pods)
	r.Clients = slices.Sorted(maps.Keys(clients))
	slices.Sort(took)
	r.P50, r.P99 = milliseconds(percentile(took, 50)), milliseconds(percentile(took, 99))
	return r
}

// percentile is the smallest value that at least p percent of the sorted
// values do not exceed; zero if there are none.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := (len(sorted)*p + 99) / 100
	return sorted[max(rank, 1)-1]
}

func milliseconds(d time.Duration) float64 {
	return math.Round(d.Seconds()*1e5) / 100
}
