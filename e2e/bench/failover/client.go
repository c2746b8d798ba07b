package failover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/probe"
)

// path is one client and one address.
type path struct {
	host, target string
	forget       bool // the host is made to forget who has the address, again and again
}

// paths are a host that knows where the addresses are and one that has to ask.
func (b *Bench) paths() (out []path) {
	for _, host := range []string{lab.Client, lab.ControlPlane} {
		for _, ip := range b.service.ExternalIPs {
			out = append(out, path{host: host, target: demo.URL(ip, 80), forget: host == lab.ControlPlane})
		}
	}
	return out
}

// clients connect until they are stopped.
type clients struct {
	probers   []*lab.Prober
	forgetter *exec.Cmd
	end       io.Closer
}

func (b *Bench) connect(ctx context.Context) (*clients, error) {
	c := &clients{}
	// Ends with its standard input.
	forget := fmt.Sprintf("while read -t 0.05 x; [ $? -gt 128 ]; do for a in %s; do ip neighbour flush to $a nud reachable nud stale nud delay nud probe; done; done", strings.Join(b.service.ExternalIPs, " "))
	var err error
	if c.forgetter, err = b.Lab.Command(ctx, lab.ControlPlane, "bash", "-c", forget); err != nil {
		return nil, err
	}
	if c.end, err = c.forgetter.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.forgetter.Start(); err != nil {
		return nil, err
	}
	for _, p := range b.paths() {
		prober, err := b.Lab.StartProbe(ctx, p.host, p.target, "-every=20ms", "-timeout=300ms", "-each")
		if err != nil {
			return nil, errors.Join(err, c.end.Close())
		}
		c.probers = append(c.probers, prober)
	}
	return c, nil
}

func (c *clients) stop() ([]probe.Report, error) {
	var out []probe.Report
	var errs []error
	for _, p := range c.probers {
		r, err := p.Stop()
		out, errs = append(out, r), append(errs, err)
	}
	c.end.Close()
	_ = c.forgetter.Wait() // its status is that of its last command
	return out, errors.Join(errs...)
}

// Result is what all clients saw of one fault.
type Result struct {
	Requests, Failed int
	Cut              int           // were open when the address moved, and ended
	Gap              time.Duration // the longest time without an answer on one path
	Clean            time.Duration // from the fault to the last request that began and failed
	where            []string      // what failed, a path each
}

func (r Result) String() string {
	return fmt.Sprintf("gap_s=%.2f failed=%d cut=%d requests=%d clean_s=%.2f", r.Gap.Seconds(), r.Failed, r.Cut, r.Requests, r.Clean.Seconds()) +
		strings.Join(append([]string{""}, r.where...), "\n    ")
}

// reduce sums up what clients saw of a fault; moves is Scenario.Moves.
func reduce(reports []probe.Report, fault time.Time, moves bool) Result {
	var out Result
	for _, r := range reports {
		out.Requests += r.Requests
		out.Gap = max(out.Gap, time.Duration(r.Gap*float64(time.Millisecond)))
		for _, q := range r.Each {
			if q.OK || q.At.Add(q.Took).Before(fault) {
				continue // what failed before has another reason
			}
			if moves && (q.Why == "connection reset" || q.Why == "no answer") { // it was open: what cannot be opened is refused, or times out
				out.Cut++
				continue
			}
			out.Failed++
			out.Clean = max(out.Clean, q.At.Sub(fault))
		}
		if r.Failures > 0 {
			out.where = append(out.where, fmt.Sprintf("%s %d x %v from %.2f s to %.2f s", r.Target, r.Failures, r.Reasons,
				r.FirstFailure.Sub(fault).Seconds(), r.LastFailure.Sub(fault).Seconds()))
		}
	}
	return out
}
