package demo

import (
	"context"
	"fmt"

	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/probe"
)

// Path is one way to reach the Service.
type Path struct {
	Name   string
	Host   string // in which the requests start; a pod if empty
	Target string
}

// Row is a Path and what a probe of it found.
type Row struct {
	Path   Path
	Report probe.Report
}

// requests of one path. That six pods share them fairly and one gets none has
// the chance of 1 in 10^15.
const requests = 200

// Paths lists every way that a user has to reach the Service.
func Paths(l *lab.Lab, s Service) []Path {
	paths := []Path{
		{"EXTERNAL-IP from the LAN client", lab.Client, "http://" + s.ExternalIP + "/"},
		{"EXTERNAL-IP from behind the router", lab.Ext, "http://" + s.ExternalIP + "/"},
	}
	for _, name := range l.Nodes() {
		paths = append(paths, Path{"NodePort on " + name + " from the LAN client", lab.Client, fmt.Sprintf("http://%s:%d/", l.NodeAddress(name), s.NodePort)})
	}
	return append(paths,
		Path{"ClusterIP from a pod", "", "http://" + s.ClusterIP + "/"},
		Path{"Service name (CoreDNS) from a pod", "", "http://web.default.svc.cluster.local/"})
}

// Measure probes all paths, one after another.
func Measure(ctx context.Context, l *lab.Lab, s Service, step *lab.Step) ([]Row, error) {
	var rows []Row
	for _, p := range Paths(l, s) {
		step.Waiting("%s", p.Name)
		report, err := p.Probe(ctx, l)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", p.Name, err)
		}
		rows = append(rows, Row{Path: p, Report: report})
	}
	return rows, nil
}

// Probe makes the requests of a path.
func (p Path) Probe(ctx context.Context, l *lab.Lab) (probe.Report, error) {
	count := fmt.Sprintf("-n=%d", requests)
	if p.Host == "" {
		return l.ProbeFromPod(ctx, visitor, p.Target, count)
	}
	return l.Probe(ctx, p.Host, p.Target, count)
}

// Objection says why the path is not all right, or nil.
func (r Row) Objection() error {
	if r.Report.Requests == requests && r.Report.Failures == 0 && r.Report.Distinct == Replicas {
		return nil
	}
	return fmt.Errorf("%s (%s): %s", r.Path.Name, r.Path.Target, describe(r.Report))
}
