package proxy

import "time"

// affinityTimeouts are the timeouts that an affinity can have. They are few, so that
// Services with many different ones do not multiply what a kernel holds. Each is at
// most three times the one before. 125 s instead of two minutes is for Kubernetes' own
// test, which asks for that and wants the client forgotten 5 s later.
var affinityTimeouts = []time.Duration{
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second,
	time.Minute, 125 * time.Second, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// AffinityTimeout returns the timeout that a Service gets that asks for d: the
// shortest possible one that is not shorter, at most a day, which is the most that a
// Service may ask for. It returns 0, for no affinity, if d is not positive.
func AffinityTimeout(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	for _, t := range affinityTimeouts {
		if t >= d {
			return t
		}
	}
	return affinityTimeouts[len(affinityTimeouts)-1]
}
