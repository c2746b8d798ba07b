// Package upgrade reports whether a cluster can be upgraded from an earlier revision of
// fairlead, its image and its chart, to this checkout's and back without a failed
// request.
package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/probe"
)

// Run installs fairlead of the checkout at earlier in a lab that has none, deploys
// the examples, upgrades to l's own checkout under load and goes back again, and
// says on out what the clients saw each way. The error says which of their requests
// failed.
func Run(ctx context.Context, l *lab.Lab, earlier string, out io.Writer) error {
	install := func(ctx context.Context) error { return l.InstallRevision(ctx, earlier, "earlier") }
	if err := install(ctx); err != nil {
		return err
	}
	s, err := demo.Deploy(ctx, l, earlier)
	if err != nil {
		return err
	}
	if err := settle(ctx, l, s); err != nil {
		return err
	}
	for _, way := range []struct {
		name string
		do   func(context.Context) error
	}{{"upgrade", l.InstallFairlead}, {"and back", install}} {
		if err := under(ctx, l, s, way.name, way.do, out); err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
	}
	return nil
}

// under does what name says while clients use every path.
func under(ctx context.Context, l *lab.Lab, s demo.Service, name string, do func(context.Context) error, out io.Writer) error {
	load, err := begin(ctx, l, s)
	if err != nil {
		return err
	}
	began := time.Now()
	failed := do(ctx)
	took := time.Since(began)
	if failed == nil {
		failed = settle(ctx, l, s)
	}
	if err := errors.Join(failed, load.end(name, out)); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: ok in %.0f s, EXTERNAL-IP=%s kept\n", name, took.Seconds(), s.ExternalIPs[0])
	return nil
}

// settle waits until every path reaches all servers.
func settle(ctx context.Context, l *lab.Lab, s demo.Service) error {
	for _, p := range demo.Paths(l, s) {
		err := lab.Until(ctx, 2*time.Minute, p.Name, func(ctx context.Context) error {
			r, err := p.Probe(ctx, l)
			if err == nil {
				err = demo.Row{Path: p, Report: r}.Objection()
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// load is clients on every path: one that makes new connections, and where no
// router and no name is between one that keeps the connection that it has.
type load struct {
	names   []string
	probers []*lab.Prober
}

func begin(ctx context.Context, l *lab.Lab, s demo.Service) (*load, error) {
	visitors, err := l.Pods(ctx, "default", "run="+demo.Visitor)
	if err != nil {
		return nil, err
	}
	if len(visitors) != 1 {
		return nil, fmt.Errorf("%d pods named %s", len(visitors), demo.Visitor)
	}
	w := &load{}
	for _, p := range demo.Paths(l, s) {
		if err := w.start(ctx, l, visitors[0], p); err != nil {
			return nil, err
		}
		if p.Host == lab.Ext || p.Family != "" {
			continue
		}
		if err := w.start(ctx, l, visitors[0], p, "-keep"); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *load) start(ctx context.Context, l *lab.Lab, from lab.Pod, p demo.Path, how ...string) error {
	args := append([]string{"-c=1", "-i=50ms", "-timeout=3s", "-family=" + p.Family}, how...)
	var prober *lab.Prober
	var err error
	if p.Host == "" {
		prober, err = l.StartProbeFromPod(ctx, from, p.Target, args...)
	} else {
		prober, err = l.StartProbe(ctx, p.Host, p.Target, args...)
	}
	name := fmt.Sprintf("%s %s%v", p.Name, p.Target, how)
	w.names, w.probers = append(w.names, name), append(w.probers, prober)
	return err
}

// end sums up what the clients saw.
func (w *load) end(name string, out io.Writer) error {
	var errs []error
	requests, gap := 0, 0.0
	for i, p := range w.probers {
		r, err := p.Stop()
		requests, gap = requests+r.Requests, max(gap, r.Gap)
		errs = append(errs, err, objection(w.names[i], r))
	}
	fmt.Fprintf(out, "%s: %d requests on %d paths and connections, the longest time without an answer was %.0f ms\n", name, requests, len(w.names), gap)
	return errors.Join(errs...)
}

func objection(name string, r probe.Report) error {
	if r.Failures == 0 && r.Requests >= 10 {
		return nil
	}
	return fmt.Errorf("%s: %d of %d requests failed %v, from %s to %s", name, r.Failures, r.Requests, r.Reasons,
		r.FirstFailure.Format(time.StampMilli), r.LastFailure.Format(time.StampMilli))
}
