// Package routed measures in the lab how long a router and a client behind it
// take to notice that a node has lost its power, with BFD and without.
package routed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/report"
	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/probe"
)

// Case is how the routers are to notice, and by when they must have.
type Case struct {
	Name  string
	Peer  string        // patch of every BGPPeer's spec
	BFD   bool          // sessions of BFD are waited for
	Gone  time.Duration // the latest that the route may be gone
	Clean time.Duration // the latest that a connection may begin that fails
}

// Cases are all of them. A hold time of 3 s is the shortest that there is.
var Cases = []Case{
	{
		Name: "BFD 50 ms x 3 and graceful restart", BFD: true, Gone: 300 * time.Millisecond, Clean: 500 * time.Millisecond,
		Peer: `{"holdTime":"90s","keepaliveTime":"30s","bfd":{"receiveInterval":"50ms","transmitInterval":"50ms","detectMultiplier":3},"gracefulRestart":{}}`,
	},
	{
		Name: "hold time 3 s, no BFD", Gone: 3500 * time.Millisecond, Clean: 4 * time.Second,
		Peer: `{"holdTime":"3s","keepaliveTime":"1s","bfd":null,"gracefulRestart":null}`,
	},
}

// Result is what was seen of one power loss.
type Result struct {
	Case
	Router           string
	Node             string
	Went             time.Duration // from the fault until the router's kernel had no route by the node
	Last             time.Duration // from the fault to the last connection that began and failed
	Requests, Failed int           // after the fault
}

func (r Result) String() string {
	return fmt.Sprintf("bench-bgp: %s, %s loses power, %s: route gone after %.0f ms, last failed connection %.0f ms after it, %d of %d failed",
		strings.ToUpper(r.Router), r.Node, r.Name, ms(r.Went), ms(r.Last), r.Failed, r.Requests)
}

// Lines returns each power loss as a line, over as many events as there were requests.
func Lines(results []Result) *report.Lines {
	out := &report.Lines{}
	for _, r := range results {
		out.Add(fmt.Sprintf("PowerLoss/router=%s/bfd=%t", r.Router, r.BFD), r.Requests,
			report.Time(r.Went, "gone-sec"), report.Time(r.Last, "clean-sec"), report.Of(float64(r.Failed), "failed"))
	}
	return out
}

// Missed says what took too long, or nothing.
func (r Result) Missed() string {
	var out []string
	if r.Went > r.Gone {
		out = append(out, fmt.Sprintf("%s: the route may be there for %s", r.Name, r.Gone))
	}
	if r.Last > r.Clean {
		out = append(out, fmt.Sprintf("%s: connections may fail for %s", r.Name, r.Clean))
	}
	return strings.Join(out, "; ")
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Bench measures in a lab with fairlead.
type Bench struct {
	Lab    *lab.Lab
	Router string // "frr" or "bird"
	Cases  []Case
	Out    io.Writer

	router lab.Speaker
	vip    string
	victim string
}

// Deploy gives the lab its router, and waits until that shares the addresses of the
// examples, which it returns, between all nodes.
func (b *Bench) Deploy(ctx context.Context) (ips []string, err error) {
	if b.router, err = b.Lab.StartBGP(ctx, b.Router); err != nil {
		return nil, err
	}
	s, err := demo.DeployIn(ctx, b.Lab, b.Lab.Root(), "bgp.yaml")
	if err != nil {
		return nil, err
	}
	nodes := b.Lab.Nodes()
	b.vip, b.victim = s.ExternalIPs[0], nodes[len(nodes)-1]
	_, err = demo.WaitSessions(ctx, b.Lab, b.router)
	return s.ExternalIPs, err
}

// Run measures every case once, after Deploy.
func (b *Bench) Run(ctx context.Context) (all []Result, err error) {
	if err := b.emptyVictim(ctx); err != nil {
		return nil, err
	}
	for _, c := range b.Cases {
		r, err := b.once(ctx, c)
		if err != nil {
			return all, fmt.Errorf("%s: %w", c.Name, err)
		}
		fmt.Fprintln(b.Out, r)
		all = append(all, r)
	}
	return all, nil
}

// emptyVictim has the web servers run elsewhere: what is measured is the way to
// the nodes, not how soon a dead node's endpoints are left out.
func (b *Bench) emptyVictim(ctx context.Context) error {
	for _, name := range b.Lab.Nodes() {
		label := map[bool]string{true: "web-", false: "web=here"}[name == b.victim]
		if _, err := b.Lab.Kubectl(ctx, "label", "node", name, label, "--overwrite"); err != nil {
			return err
		}
	}
	if _, err := b.Lab.Kubectl(ctx, "patch", "deployment", "web", "--patch", `{"spec":{"template":{"spec":{"nodeSelector":{"web":"here"}}}}}`); err != nil {
		return err
	}
	_, err := b.Lab.Kubectl(ctx, "rollout", "status", "deployment/web", "--timeout=3m")
	return err
}

// once cuts the victim's power and undoes it.
func (b *Bench) once(ctx context.Context, c Case) (r Result, err error) {
	r = Result{Case: c, Router: b.Router, Node: b.victim}
	if err := b.ready(ctx, c); err != nil {
		return r, err
	}
	prober, err := b.Lab.StartProbe(ctx, lab.Ext, demo.URL(b.vip, 80), "-every=10ms", "-timeout=500ms", "-each")
	if err != nil {
		return r, err
	}
	w, err := b.watch(ctx)
	if err != nil {
		_, stop := prober.Stop()
		return r, errors.Join(err, stop)
	}
	time.Sleep(time.Second)
	at := time.Now()
	errFault := b.Lab.StopNode(ctx, b.victim)
	time.Sleep(c.Clean + 2*time.Second)
	report, errProbe := prober.Stop()
	looks, errWatch := w.stop()
	errBack := b.Lab.StartNode(context.WithoutCancel(ctx), b.victim)
	if err := errors.Join(errFault, errProbe, errWatch, errBack); err != nil {
		return r, err
	}
	r.read(report, at)
	r.Went, err = lastSeen(looks, b.Lab.NodeAddress(b.victim), at)
	return r, err
}

func (r *Result) read(report probe.Report, at time.Time) {
	for _, q := range report.Each {
		if q.At.Before(at) {
			continue
		}
		r.Requests++
		if !q.OK {
			r.Failed, r.Last = r.Failed+1, q.At.Sub(at)
		}
	}
}

// ready waits until the sessions are as the case wants them, all nodes share the
// address, and nothing fails.
func (b *Bench) ready(ctx context.Context, c Case) error {
	for _, name := range []string{"router-by-ipv4", "router-by-ipv6"} {
		if _, err := b.Lab.Kubectl(ctx, "patch", "bgppeer", name, "--type=merge", "--patch", `{"spec":`+c.Peer+`}`); err != nil {
			return err
		}
	}
	return lab.Until(ctx, 3*time.Minute, "all nodes at the router", func(ctx context.Context) error {
		if _, err := demo.WaitSessions(ctx, b.Lab, b.router); err != nil {
			return err
		}
		hops, err := demo.NextHops(ctx, b.Lab, b.vip)
		if err != nil || !slices.Equal(hops, b.Lab.Nodes()) {
			return errors.Join(err, fmt.Errorf("next hops %v", hops))
		}
		if n, err := b.router.Watched(ctx); err != nil || c.BFD != (n == 2*len(b.Lab.Nodes())) || !c.BFD && n > 0 {
			return errors.Join(err, fmt.Errorf("%d BFD sessions are up", n))
		}
		p, err := b.Lab.Probe(ctx, lab.Ext, demo.URL(b.vip, 80), "-n=200", "-timeout=500ms")
		if err != nil || p.Failures > 0 {
			return errors.Join(err, fmt.Errorf("%d requests failed", p.Failures))
		}
		return nil
	})
}

// Clean removes what Deploy and Run have applied and started.
func (b *Bench) Clean(ctx context.Context) error {
	_, err := b.Lab.Kubectl(ctx, "label", "node", "--all", "web-")
	errs := []error{err, b.Lab.StopBGP(ctx)}
	for _, file := range []string{"web.yaml", "bgp.yaml"} {
		_, err := b.Lab.Kubectl(ctx, "delete", "-f", filepath.Join(b.Lab.Root(), "examples", file), "--ignore-not-found")
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
