package stories

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/bench/routed"
	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// routerProgram is what the router runs.
const routerProgram = "frr"

// nextHops is what happens to the router's next hops while connections are open.
var nextHops = []happening{
	{name: "each node stops announcing, and begins again", do: (*directed).eachStops},
	{name: "each node is cordoned, and uncordoned", do: (*directed).eachIsCordoned},
	{name: "one node announces, then all", do: (*directed).oneAnnounces},
	{name: "the router hashes by other things", do: (*directed).hashes},
	{name: "the router's BGP ends, and starts", do: (*directed).restarts, fails: 1, away: true},
	{name: "an agent is killed", do: (*directed).killsAgent, fails: 1},
	{name: "a node loses power", do: (*directed).nodeDies, fails: 1},
}

// Every node announces an address to a router by BGP, and each owns the packets that the router
// gives it. 200 open connections from behind the router live as long as their pods do, whatever
// the router does with its next hops. First the nodes are neighbours, then the router is
// between them.
func TestConnectionsOutliveTheRoutersNextHops(t *testing.T) {
	l := cluster(t)
	switch {
	case os.Getenv("FAIRLEAD_E2E_ALL") == "":
		t.Skip("make e2e WHAT=director runs it")
	case l.CNI() != "":
		t.Skip("the routes between nodes are the CNI's")
	}
	undo(t, func(ctx context.Context) error { return l.ConfigureFairlead(ctx) })
	if err := l.ConfigureFairlead(t.Context(), directs...); err != nil {
		t.Fatal(err)
	}
	electable(t)
	byBGP(t, &routed.Bench{Lab: l, Router: routerProgram, Out: os.Stderr})
	text := manifests(t, "directed.yaml")
	if !strings.Contains(text, "l2: {}") {
		t.Fatal("directed.yaml announces otherwise")
	}
	apply(t, strings.Replace(text, "l2: {}", "bgp: {}", 1))
	externalIP(t, "directed")
	vips := strings.Fields(kubectl(t, "get", "service", "directed", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}"))
	if len(vips) != 2 {
		t.Fatalf("addresses %v, want one of each family", vips)
	}
	forgotten(t, vips...)
	d := &directed{Lab: l, crowd: crowd{host: lab.Ext, vips: vips}}
	t.Cleanup(d.close)
	all := func(t *testing.T) {
		d.lead(t, l.Nodes()...)
		for _, h := range nextHops {
			t.Run(h.name, func(t *testing.T) { d.try(t, h) })
		}
	}
	t.Run("neighbours", all)
	undo(t, l.JoinLAN)
	if err := l.SplitLAN(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.reach(t)
	t.Run("other subnets", all)
}

// reach waits until each node says that it passes packets on to all others in other subnets.
func (d *directed) reach(t *testing.T) {
	t.Helper()
	for _, node := range d.Nodes() {
		others := slices.DeleteFunc(d.Nodes(), func(n string) bool { return n == node })
		eventually(t, settled, node+" to reach other subnets", func(ctx context.Context) error {
			out, err := d.Kubectl(ctx, "get", "nodestate", node, "-o", "jsonpath={.status.director.reaches[*]} {.status.director.why}")
			if got := strings.TrimSpace(string(out)); err == nil && got != strings.Join(others, " ") {
				err = fmt.Errorf("it says %q", got)
			}
			return err
		})
	}
}

// lead waits until the router's next hops to the addresses are these nodes.
func (d *directed) lead(t *testing.T, nodes ...string) {
	t.Helper()
	for _, vip := range d.vips {
		eventually(t, settled, fmt.Sprintf("the way to %s to lead by %v", vip, nodes), func(ctx context.Context) error {
			hops, err := demo.NextHops(ctx, d.Lab, vip)
			if err == nil && !slices.Equal(hops, nodes) {
				err = fmt.Errorf("it leads by %v", hops)
			}
			return err
		})
	}
}

// without has nodes announce nothing, by commands of kubectl in which their names are to be
// put, until the connections have talked.
func (d *directed) without(t *testing.T, away, back []string, nodes ...string) {
	t.Helper()
	all := func(ctx context.Context, command []string) error {
		_, err := d.Kubectl(ctx, slices.Concat(command[:len(command)-1], nodes, command[len(command)-1:])...)
		return err
	}
	undo(t, func(ctx context.Context) error { return all(ctx, back) })
	if err := all(t.Context(), away); err != nil {
		t.Fatal(err)
	}
	d.lead(t, slices.DeleteFunc(d.Nodes(), func(n string) bool { return slices.Contains(nodes, n) })...)
	talkOn()
	if err := all(t.Context(), back); err != nil {
		t.Fatal(err)
	}
	d.lead(t, d.Nodes()...)
}

// The last word of these follows the nodes' names.
var (
	excluded = []string{"label", "node", snapshot.ExcludeLabel + "=true"}
	included = []string{"label", "node", snapshot.ExcludeLabel + "-"}
)

func (d *directed) eachStops(t *testing.T) func(*call) bool {
	for _, node := range d.Nodes() {
		d.without(t, excluded, included, node)
	}
	return nil
}

func (d *directed) eachIsCordoned(t *testing.T) func(*call) bool {
	for _, node := range d.Nodes() {
		d.without(t, []string{"cordon", "--v=0"}, []string{"uncordon", "--v=0"}, node)
	}
	return nil
}

func (d *directed) oneAnnounces(t *testing.T) func(*call) bool {
	d.without(t, excluded, included, d.Nodes()[1:]...)
	return nil
}

// hashes has the router choose next hops by addresses, by ports too, and by what is inside.
func (d *directed) hashes(t *testing.T) func(*call) bool {
	by := func(ctx context.Context, policy string) error {
		_, err := d.Exec(ctx, lab.Router, "sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy="+policy, "net.ipv6.fib_multipath_hash_policy="+policy)
		return err
	}
	undo(t, func(ctx context.Context) error { return by(ctx, "1") })
	for _, policy := range []string{"0", "2", "1"} {
		if err := by(t.Context(), policy); err != nil {
			t.Fatal(err)
		}
		talkOn()
	}
	return nil
}

// restarts has the router's BGP end and start. It has no way to the addresses meanwhile.
func (d *directed) restarts(t *testing.T) func(*call) bool {
	if err := d.StopBGP(t.Context()); err != nil {
		t.Fatal(err)
	}
	talkOn()
	if _, err := d.StartBGP(t.Context(), routerProgram); err != nil {
		t.Fatal(err)
	}
	d.lead(t, d.Nodes()...)
	return nil
}

func (d *directed) killsAgent(t *testing.T) func(*call) bool {
	d.killAgentOf(t, d.Nodes()[0])
	d.lead(t, d.Nodes()...)
	return nil
}

func (d *directed) nodeDies(t *testing.T) func(*call) bool {
	nodes := d.Nodes()
	last := nodes[len(nodes)-1]
	powerOnAtTheEnd(t, last)
	powerOff(t, last)
	d.lead(t, nodes[:len(nodes)-1]...)
	return func(c *call) bool { return c.node == last }
}
