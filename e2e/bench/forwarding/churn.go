package forwarding

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/report"
)

// Churn is endpoints that change all the time, beside a Service whose endpoints
// do not.
type Churn struct {
	Services int // whose endpoints change
	Rate     int // changes in a second, of all of them
	Length   time.Duration
	Bench
}

// Churned is what came of it.
type Churned struct {
	Changes  int
	Length   time.Duration
	Requests int // to the Service that does not change, 50 in a second
	Failed   []error
	P99      time.Duration // of the requests
	Longest  time.Duration
	Behind   time.Duration // from the last change until all endpoints are the last ones
	CPU      time.Duration // of the agent, for each change
}

func (c Churned) String() string {
	return fmt.Sprintf("bench-churn: changes=%d seconds=%.1f requests=%d failed=%d p99_ms=%.2f longest_ms=%.2f behind_ms=%.0f cpu_ms_per_change=%.2f",
		c.Changes, c.Length.Seconds(), c.Requests, len(c.Failed), ms(c.P99), ms(c.Longest), ms(c.Behind), ms(c.CPU))
}

// Lines returns what the requests saw and what the changes cost, a line each.
func (c Churned) Lines() *report.Lines {
	out := &report.Lines{}
	out.Add("ChurnRequest", c.Requests, report.Time(c.P99, "p99-sec"), report.Time(c.Longest, "max-sec"), report.Of(float64(len(c.Failed)), "failed"))
	out.Add("Churn", c.Changes, report.Time(c.Behind, "behind-sec"), report.Time(c.CPU, "cpu-sec/op"), report.Of(float64(c.Changes)/c.Length.Seconds(), "changes/s"))
	return out
}

// Run measures fairlead alone.
func (c *Churn) Run(ctx context.Context) (out Churned, err error) {
	contenders, stop, err := c.prepare(ctx)
	if err != nil {
		return out, err
	}
	defer stop(&err)
	if err := c.cluster.grow(ctx, 1+c.Services); err != nil {
		return out, err
	}
	_, agent, err := c.load(ctx, contenders[1])
	if err != nil {
		return out, err
	}
	defer agent.stop()
	before, err := agent.cpu()
	if err != nil {
		return out, err
	}
	p := c.world.probe(ctx, 20*time.Millisecond, clusterIP(c.cluster.services[0]), c.cluster.nodePort(), vipPort())
	began := time.Now()
	out.Changes, err = c.change(ctx)
	out.Length = time.Since(began)
	got := p.stop()
	out.Requests, out.Failed, out.P99, out.Longest = got.made+len(got.failed), got.failed, got.p99, got.longest
	if err != nil {
		return out, err
	}
	last := time.Now()
	if _, err := c.Bench.change(ctx); err != nil { // after all others
		return out, err
	}
	out.Behind = time.Since(last)
	after, err := agent.cpu()
	out.CPU = (after - before) / time.Duration(max(out.Changes, 1))
	return out, errors.Join(err, c.serves())
}

// change replaces endpoints at an even pace, of one Service after the other.
func (c *Churn) change(ctx context.Context) (n int, err error) {
	const writers = 8
	turns, failed := make(chan int), make(chan error, writers)
	for range writers {
		go func() {
			var err error
			for n := range turns {
				if err == nil {
					err = c.cluster.replace(ctx, 1+n%c.Services, n)
				}
			}
			failed <- err
		}()
	}
	began, step := time.Now(), time.Second/time.Duration(c.Rate)
	for ; time.Since(began) < c.Length && ctx.Err() == nil; n++ {
		turns <- n
		pause(ctx, time.Until(began.Add(time.Duration(n+1)*step)))
	}
	close(turns)
	for range writers {
		err = errors.Join(err, <-failed)
	}
	return n, err
}
