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
	Sources  map[string]int `json:"sources"`           // answers by client address
	Nodes    []string       `json:"nodes"`             // nodes of the pods that answered
	Ports    []string       `json:"ports"`             // ports that the pods answered on
	P50      float64        `json:"p50_ms"`
	P99      float64        `json:"p99_ms"`
	Gap      float64        `json:"gap_ms"` // longest time without an answer

	FirstFailure time.Time `json:"first_failure,omitzero"` // when the first request that failed began
	LastFailure  time.Time `json:"last_failure,omitzero"`  // and the last

	Each []Request `json:"each,omitempty"` // if it was asked for, in the order of their beginnings
}

// Request is one request, without its answer.
type Request struct {
	At   time.Time     `json:"at"`
	Took time.Duration `json:"took"`
	OK   bool          `json:"ok"`
	Why  string        `json:"why,omitempty"` // it failed, as Report.Reasons has it
}

// List returns the requests in the order of their beginnings.
func List(all []Outcome) []Request {
	out := make([]Request, len(all))
	for i, o := range all {
		out[i] = Request{At: o.At, Took: o.Took, OK: o.Err == nil}
		if o.Err != nil {
			out[i].Why = reason(o.Err)
		}
	}
	slices.SortFunc(out, func(a, b Request) int { return a.At.Compare(b.At) })
	return out
}

// Summarise counts the outcomes.
func Summarise(target string, all []Outcome) Report {
	r := Report{Target: target, Requests: len(all), Reasons: map[string]int{}, Pods: map[string]int{}, Sources: map[string]int{}}
	clients, nodes, ports := map[string]bool{}, map[string]bool{}, map[string]bool{}
	var took []time.Duration
	for _, o := range all {
		if o.Err != nil {
			r.Failures++
			r.Reasons[reason(o.Err)]++
			if r.FirstFailure.IsZero() || o.At.Before(r.FirstFailure) {
				r.FirstFailure = o.At
			}
			if o.At.After(r.LastFailure) {
				r.LastFailure = o.At
			}
			continue
		}
		r.Pods[o.Answer.Pod]++
		r.Sources[o.Answer.Client]++
		clients[o.Answer.Client], nodes[o.Answer.Node], ports[o.Answer.Port] = true, true, true
		took = append(took, o.Took)
	}
	r.Distinct = len(r.Pods)
	r.Clients, r.Nodes, r.Ports = sorted(clients), sorted(nodes), sorted(ports)
	r.Gap = milliseconds(gap(all))
	slices.Sort(took)
	r.P50, r.P99 = milliseconds(percentile(took, 50)), milliseconds(percentile(took, 99))
	return r
}

func sorted(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }

// gap is the longest time between the ends of two answered requests that follow
// each other, the begin and the end of all counting as answers.
func gap(all []Outcome) time.Duration {
	var answered []time.Time
	var first, last time.Time
	for _, o := range all {
		end := o.At.Add(o.Took)
		if o.Err == nil {
			answered = append(answered, end)
		}
		if first.IsZero() || o.At.Before(first) {
			first = o.At
		}
		if end.After(last) {
			last = end
		}
	}
	slices.SortFunc(answered, time.Time.Compare)
	longest := time.Duration(0)
	for _, at := range append(answered, last) {
		longest, first = max(longest, at.Sub(first)), at
	}
	return longest
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
