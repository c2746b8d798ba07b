package stories

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
)

// outside is a server behind the router that says who asks it, by family: IPv4 first.
type outside struct{ urls []string }

const outsidePort = "7070"

// startOutside runs a program behind the router for the time of a story.
func startOutside(t *testing.T, args ...string) {
	t.Helper()
	cmd, err := cluster(t).Command(context.WithoutCancel(t.Context()), lab.Ext, args...)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
}

// serveOutside starts it for the time of a story.
func serveOutside(t *testing.T) outside {
	t.Helper()
	l := cluster(t)
	startOutside(t, l.Hello(), "--http="+outsidePort)
	var o outside
	for _, ip := range clients[lab.Ext] {
		o.urls = append(o.urls, "http://"+net.JoinHostPort(ip, outsidePort)+"/")
	}
	for _, url := range o.urls {
		eventually(t, settled, url, func(ctx context.Context) error {
			r, err := l.Probe(ctx, lab.Client, url, "-n=1")
			if err == nil && r.Failures > 0 {
				err = fmt.Errorf("%v", r.Reasons)
			}
			return err
		})
	}
	return o
}

// seesAs waits until the server sees a pod with the addresses, one of each family.
func (o outside) seesAs(t *testing.T, p lab.Pod, want []string) {
	t.Helper()
	for i, url := range o.urls {
		eventually(t, settled, fmt.Sprintf("%s on %s to be seen as %s", p.Name, p.Node, want[i]), func(context.Context) error {
			r := podAsks(t, p, url, "-n=2", "-timeout=1s")
			if r.Failures > 0 || !slices.Equal(r.Clients, []string{want[i]}) {
				return fmt.Errorf("%s sees %v, %v", url, r.Sources, r.Reasons)
			}
			return nil
		})
	}
}

// Pods of a Service that asks for it leave with its address, whichever node they are on.
// They do when its owner loses power, and when an agent dies. Those of others, and packets
// that stay in the cluster, are as they were.
func TestPodsLeaveWithTheirServicesAddress(t *testing.T) {
	l := cluster(t)
	electable(t)
	o := serveOutside(t)
	applyFile(t, "egress.yaml")
	externalIP(t, "leaving")
	vips := strings.Fields(kubectl(t, "get", "service", "leaving", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}"))
	if len(vips) != 2 {
		t.Fatalf("addresses %v, want one of each family", vips)
	}
	all := pods(t, "default", "app=leaving", 6)
	for _, p := range all {
		o.seesAs(t, p, vips)
	}
	t.Run("explain and trace tell it", func(t *testing.T) { leavingTold(t, all[0], vips) })
	t.Run("in the cluster nothing changes", func(t *testing.T) {
		for _, q := range all[1:3] {
			for i, ip := range q.IPs {
				r := podAsks(t, all[0], "http://"+net.JoinHostPort(ip, "8080")+"/", "-n=1", "-timeout=1s")
				if r.Failures > 0 || !slices.Equal(r.Clients, all[0].IPs[i:i+1]) {
					t.Errorf("%s sees %v, %v", q.Name, r.Sources, r.Reasons)
				}
			}
		}
	})
	if os.Getenv("FAIRLEAD_E2E_ALL") != "" {
		t.Run("an agent is killed", func(t *testing.T) { leavingAgentDies(t, o, all, vips) })
		t.Run("the owner loses power", func(t *testing.T) { leavingOwnerDies(t, o, all, vips) })
		all = pods(t, "default", "app=leaving", 6)
	}
	t.Run("turned off", func(t *testing.T) {
		kubectl(t, "annotate", "service", "leaving", "fairlead.io/egress-")
		o.seesAs(t, all[0], all[0].IPs)
		for _, node := range l.Nodes() {
			eventually(t, settled, node+" to have no rule of egress", func(ctx context.Context) error {
				out, err := l.Exec(ctx, node, "nft", "list", "tables")
				if err == nil && strings.Contains(string(out), "fairlead-egress") {
					err = fmt.Errorf("%s", out)
				}
				return err
			})
		}
	})
}

// leavingThrough returns the owner of an address, once the client has looked for it.
func leavingThrough(t *testing.T, vip string) string {
	t.Helper()
	// Nobody may connect to the Service: the client only asks who has the address.
	hostAsks(t, lab.Client, demo.URL(vip, 50000), "-n=1", "-timeout=100ms")
	return announcer(t, vip)
}

// leavingTold: the commands say with which address a pod leaves, and through which node.
func leavingTold(t *testing.T, p lab.Pod, vips []string) {
	owner := leavingThrough(t, vips[0])
	for command, want := range map[string]string{
		"explain default/leaving": "✔ egress connections of its pods to destinations outside of the cluster leave with " + vips[0] + ", through " + owner,
		"trace --from " + p.IPs[0] + " --to " + clients[lab.Ext][0] + ":" + outsidePort: "✔ egress leaves with " + vips[0] + ", the address of Service default/leaving, through " + owner,
	} {
		eventually(t, settled, "fairlead "+command, func(context.Context) error {
			out, code := fairlead(t, strings.Fields(command)...)
			if line := strings.Join(strings.Fields(out), " "); code != 0 || !strings.Contains(line, want) {
				return fmt.Errorf("exit %d, want %q in\n%s", code, want, out)
			}
			return nil
		})
	}
}

// whileLeaving has something happen while pods that are not on a node ask the server, and
// judges what they saw: no source but the address, and no long time without an answer.
func whileLeaving(t *testing.T, o outside, all []lab.Pod, vips []string, without string, do func()) {
	t.Helper()
	type asking struct {
		pod  lab.Pod
		want string
		stop func() (sources map[string]int, gap float64)
	}
	var running []asking
	for _, p := range all {
		if p.Node == without {
			continue
		}
		for i, url := range o.urls {
			prober, err := cluster(t).StartProbeFromPod(t.Context(), p, url, "-every=20ms", "-timeout=500ms")
			if err != nil {
				t.Fatal(err)
			}
			running = append(running, asking{p, vips[i], func() (map[string]int, float64) {
				r, err := prober.Stop()
				if err != nil {
					t.Error(err)
				}
				return r.Sources, r.Gap
			}})
		}
	}
	time.Sleep(time.Second) // so long nothing happens
	do()
	time.Sleep(3 * time.Second) // so long what happened is watched
	for _, a := range running {
		sources, gap := a.stop()
		t.Logf("%s on %s: seen as %v, the longest time without an answer was %.0f ms", a.pod.Name, a.pod.Node, sources, gap)
		if len(sources) != 1 || sources[a.want] == 0 {
			t.Errorf("%s was seen as %v, want %s alone", a.pod.Name, sources, a.want)
		}
		if gap > 10_000 { // a noisy machine: what is usual is measured by make bench WHAT=failover
			t.Errorf("%s: no answer for %.0f ms", a.pod.Name, gap)
		}
	}
}

func leavingAgentDies(t *testing.T, o outside, all []lab.Pod, vips []string) {
	l := cluster(t)
	owner := leavingThrough(t, vips[0])
	began := metricNow(t, owner, startTime)
	whileLeaving(t, o, all, vips, "", func() {
		if err := l.KillPod(t.Context(), agentOf(t, owner)); err != nil {
			t.Fatal(err)
		}
		nextAgent(t, owner, began)
	})
}

func leavingOwnerDies(t *testing.T, o outside, all []lab.Pod, vips []string) {
	owner := leavingThrough(t, vips[0])
	settledElsewhere(t, owner)
	powerOnAtTheEnd(t, owner)
	whileLeaving(t, o, all, vips, owner, func() { powerOff(t, owner) })
	for _, p := range all {
		if p.Node != owner {
			o.seesAs(t, p, vips)
		}
	}
	if err := cluster(t).StartNode(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	electable(t)
}
