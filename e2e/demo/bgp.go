package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/probe"
)

// connections are made from behind the router to each address. That one of three
// nodes gets none by chance has the chance of 1 in 10^17.
const connections = 100

// Route is how the router's kernel reaches an address, and which nodes the
// connections came in by.
type Route struct {
	IP          string
	Nodes       []string // next hops, sorted
	Connections map[string]int
	Report      probe.Report
}

// Routed is what the demo found behind a router that speaks BGP.
type Routed struct {
	Service  Service
	Sessions map[string]string // states, by the router's names
	Routes   []Route           // of Service.ExternalIPs, in their order
	Rows     []Row
	nodes    []string
}

// RunBGP is Run with addresses that the nodes announce to the router by BGP. It
// prints the router's own tables too.
func RunBGP(ctx context.Context, l *lab.Lab, router lab.Speaker, out io.Writer) (Routed, error) {
	r := Routed{nodes: l.Nodes()}
	var err error
	if r.Service, err = DeployIn(ctx, l, l.Root(), "bgp.yaml"); err != nil {
		return r, err
	}
	if r.Sessions, err = WaitSessions(ctx, l, router); err != nil {
		return r, err
	}
	step := l.Progress().Begin("measuring %d paths", len(Paths(l, r.Service)))
	if r.Rows, err = Measure(ctx, l, r.Service, step); step.Done(err) != nil {
		return r, err
	}
	for _, ip := range r.Service.ExternalIPs {
		route, err := Spread(ctx, l, ip)
		if err != nil {
			return r, err
		}
		r.Routes = append(r.Routes, route)
	}
	if err := showRouter(ctx, l, router, r, out); err != nil {
		return r, err
	}
	printRows(out, r.Rows)
	r.print(out)
	return r, r.objections()
}

// WaitSessions waits until the router has all its sessions.
func WaitSessions(ctx context.Context, l *lab.Lab, router lab.Speaker) (states map[string]string, err error) {
	step := l.Progress().Begin("sessions between the router and the nodes")
	err = lab.Until(ctx, time.Minute, "the router's sessions", func(ctx context.Context) error {
		if states, err = router.Sessions(ctx); err != nil {
			return err
		}
		if up := established(states); up < 2*len(l.Nodes()) {
			return fmt.Errorf("%d are established: %v", up, states)
		}
		return nil
	})
	return states, step.Done(err)
}

func established(states map[string]string) (n int) {
	for _, s := range states {
		if s == lab.Established {
			n++
		}
	}
	return n
}

// Spread looks at the router's route to ip and makes 100 connections over it. A pod
// sees the node that a connection came in by, since that masquerades it.
func Spread(ctx context.Context, l *lab.Lab, ip string) (Route, error) {
	r := Route{IP: ip, Connections: map[string]int{}}
	var err error
	if r.Nodes, err = NextHops(ctx, l, ip); err != nil {
		return r, err
	}
	r.Report, err = l.Probe(ctx, lab.Ext, URL(ip, 80), fmt.Sprintf("-n=%d", connections))
	for source, n := range r.Report.Sources {
		r.Connections[l.NodeOf(source)] += n
	}
	return r, err
}

// NextHops lists the nodes that the router's kernel sends what is for ip to.
func NextHops(ctx context.Context, l *lab.Lab, ip string) ([]string, error) {
	out, err := l.Exec(ctx, lab.Router, "ip", "-"+family(ip), "-json", "route", "show", ip)
	if err != nil {
		return nil, err
	}
	hops, err := parseHops(out)
	for i := range hops {
		hops[i] = l.NodeOf(hops[i])
	}
	slices.Sort(hops)
	return hops, err
}

// parseHops reads the gateways out of "ip -json route". No route: none.
func parseHops(data []byte) ([]string, error) {
	var list []struct {
		Gateway  string
		Nexthops []struct{ Gateway string }
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("router's routes: %w", err)
	}
	var hops []string
	for _, r := range list {
		if r.Gateway != "" {
			hops = append(hops, r.Gateway)
		}
		for _, h := range r.Nexthops {
			hops = append(hops, h.Gateway)
		}
	}
	return hops, nil
}

// showRouter prints what the router says, in its own words.
func showRouter(ctx context.Context, l *lab.Lab, router lab.Speaker, r Routed, out io.Writer) error {
	for _, command := range router.Tables() {
		text, err := router.Shell(ctx, command)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "\nrouter# %s\n%s\n", command, strings.TrimSpace(text))
	}
	for _, ip := range r.Service.ExternalIPs {
		args := []string{"ip", "-" + family(ip), "route", "show", ip}
		text, err := l.Exec(ctx, lab.Router, args...)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "\nrouter$ %s\n%s\n", strings.Join(args, " "), strings.TrimSpace(string(text)))
	}
	return nil
}

func (r Routed) print(out io.Writer) {
	for _, route := range r.Routes {
		fmt.Fprintf(out, "%d connections from behind the router to %s came in by", route.Report.Requests, route.IP)
		for i, node := range slices.Sorted(maps.Keys(route.Connections)) {
			fmt.Fprintf(out, "%s %s %d", map[bool]string{true: ","}[i > 0], node, route.Connections[node])
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintln(out)
}

// Summary is the last line of a demo that went well.
func (r Routed) Summary() string {
	good := len(r.Rows) - len(objections(r.Rows))
	return fmt.Sprintf("demo: ok EXTERNAL-IP=%s announced-by=%s sessions=%d/%d paths=%d/%d pods=%d/%d", r.Service.ExternalIPs[0],
		strings.Join(r.Routes[0].Nodes, ","), established(r.Sessions), 2*len(r.nodes), good, len(r.Rows), pods(r.Rows), Replicas)
}

func (r Routed) objections() error {
	errs := objections(r.Rows)
	for _, route := range r.Routes {
		errs = append(errs, route.Objection(r.nodes))
	}
	return errors.Join(errs...)
}

// Objection says why the route is not shared between all nodes, or nil.
func (r Route) Objection(nodes []string) error {
	var errs []error
	if !slices.Equal(r.Nodes, nodes) {
		errs = append(errs, fmt.Errorf("%s: the router's next hops are %v, not %v", r.IP, r.Nodes, nodes))
	}
	if used := slices.Sorted(maps.Keys(r.Connections)); r.Report.Failures > 0 || !slices.Equal(used, nodes) {
		errs = append(errs, fmt.Errorf("%s from behind the router: %d connections failed, the others came in by %v", r.IP, r.Report.Failures, r.Connections))
	}
	return errors.Join(errs...)
}
