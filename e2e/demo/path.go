package demo

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/probe"
)

// Path is one way to reach the Service.
type Path struct {
	Name   string
	Host   string // in which the requests start; a pod if empty
	Target string
	Family string // "4" or "6", of a name that has both
}

// Row is a Path and what a probe of it found.
type Row struct {
	Path   Path
	Report probe.Report
}

// requests of one path. That six pods share them fairly and one gets none has
// the chance of 1 in 10^15.
const requests = 200

// Paths lists every way that a user has to reach the Service, by each of its
// families.
func Paths(l *lab.Lab, s Service) []Path {
	var paths []Path
	for _, ip := range s.ExternalIPs {
		paths = append(paths,
			Path{Name: "EXTERNAL-IP from the LAN client", Host: lab.Client, Target: URL(ip, 80)},
			Path{Name: "EXTERNAL-IP from behind the router", Host: lab.Ext, Target: URL(ip, 80)})
	}
	for _, name := range l.Nodes() {
		for _, ip := range s.sameFamilies(l.NodeAddress(name), l.NodeAddress6(name)) {
			paths = append(paths, Path{Name: "NodePort on " + name + " from the LAN client", Host: lab.Client, Target: URL(ip, s.NodePort)})
		}
	}
	for _, ip := range s.ClusterIPs {
		paths = append(paths, Path{Name: "ClusterIP from a pod", Target: URL(ip, 80)})
	}
	for _, ip := range s.ClusterIPs {
		paths = append(paths, Path{Name: "Service name (CoreDNS) from a pod, IPv" + family(ip), Target: "http://web.default.svc.cluster.local/", Family: family(ip)})
	}
	return paths
}

// URL is of a server at ip; it leaves out the port that nobody writes.
func URL(ip string, port int) string {
	if port != 80 {
		return "http://" + net.JoinHostPort(ip, strconv.Itoa(port)) + "/"
	}
	if family(ip) == "6" {
		return "http://[" + ip + "]/"
	}
	return "http://" + ip + "/"
}

// family is "4" or "6".
func family(ip string) string {
	if strings.Contains(ip, ":") {
		return "6"
	}
	return "4"
}

// sameFamilies leaves out the addresses of a family that the Service lacks.
func (s Service) sameFamilies(ips ...string) []string {
	return slices.DeleteFunc(ips, func(ip string) bool {
		return !slices.ContainsFunc(s.ClusterIPs, func(own string) bool { return family(own) == family(ip) })
	})
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
	args := []string{fmt.Sprintf("-n=%d", requests), "-family=" + p.Family}
	if p.Host == "" {
		return l.ProbeFromPod(ctx, Visitor, p.Target, args...)
	}
	return l.Probe(ctx, p.Host, p.Target, args...)
}

// Objection says why the path is not all right, or nil.
func (r Row) Objection() error {
	if r.Report.Requests == requests && r.Report.Failures == 0 && r.Report.Distinct == Replicas {
		return nil
	}
	return fmt.Errorf("%s (%s): %s", r.Path.Name, r.Path.Target, describe(r.Report))
}
