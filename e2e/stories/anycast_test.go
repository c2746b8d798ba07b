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

	"github.com/fairlead/fairlead/e2e/bench/routed"
	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/probe"
)

// Two clusters have one address. While this one has no endpoint, its pods, its nodes and
// hosts behind the router reach the other one, and this one again a second after an
// endpoint is ready. The other cluster is the host behind the router, by a route that
// counts less. "make e2e WHAT=anycast" runs it.
func TestAddressOfTwoClusters(t *testing.T) {
	l := cluster(t)
	if os.Getenv("FAIRLEAD_E2E_ALL") == "" {
		t.Skip("make e2e WHAT=anycast runs it")
	}
	electable(t)
	byBGP(t, &routed.Bench{Lab: l, Router: "bird", Out: os.Stderr})
	applyFile(t, "anycast.yaml")
	externalIP(t, "anycast")
	vips := strings.Fields(kubectl(t, "get", "service", "anycast", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}"))
	if len(vips) != 2 {
		t.Fatalf("addresses %v, want one of each family", vips)
	}
	elsewhere(t, vips)
	here := pods(t, "default", "app=anycast", 1)[0].Node
	visitor := visitorOf(t)
	asked := func(want string) {
		t.Helper()
		for _, vip := range vips {
			for _, from := range []string{"a pod", l.Nodes()[0], l.Nodes()[1], lab.Client} {
				servedAt(t, visitor, from, demo.URL(vip, 80), want)
			}
		}
	}
	asked(here)
	kubectl(t, "scale", "deployment/anycast", "--replicas=0")
	asked(otherCluster)
	out, code := fairlead(t, "trace", "--from", visitor.IPs[0], "--to", net.JoinHostPort(vips[0], "80"))
	if code != 0 || !strings.Contains(out, "The packet goes on as any other") {
		t.Errorf("trace: exit %d\n%s", code, out)
	}
	kubectl(t, "scale", "deployment/anycast", "--replicas=1")
	here = pods(t, "default", "app=anycast", 1)[0].Node
	asked(here)
	t.Run("back", func(t *testing.T) { backWithin(t, l, visitor, vips[0]) })
}

// otherCluster is the node that the server of the other cluster says.
const otherCluster = "other-cluster"

// elsewhere has a server behind the router answer at the addresses too.
func elsewhere(t *testing.T, vips []string) {
	t.Helper()
	l := cluster(t)
	startOutside(t, "env", "NODE_NAME="+otherCluster, l.Hello(), "--http=80")
	for i, vip := range vips {
		family, bits := []string{"-4", "-6"}[i], []string{"/32", "/128"}[i]
		for _, args := range [][]string{
			{lab.Ext, "ip", family, "addr", "add", vip + bits, "dev", "lo", "nodad"},
			{lab.Router, "ip", family, "route", "add", vip + bits, "via", clients[lab.Ext][i], "metric", "50000"},
		} {
			if out, err := l.Exec(t.Context(), args[0], args[1:]...); err != nil {
				t.Fatalf("%v: %v: %s", args, err, out)
			}
			undo(t, func(ctx context.Context) error {
				gone := slices.Clone(args)
				gone[slices.Index(gone, "add")] = "del"
				_, err := l.Exec(ctx, gone[0], gone[1:]...)
				return err
			})
		}
	}
}

// visitorOf returns the pod that calls Services from inside the cluster.
func visitorOf(t *testing.T) lab.Pod {
	t.Helper()
	return pods(t, "default", "run="+demo.Visitor, 1)[0]
}

// servedAt waits until a server on node answers at url, asked from a host or from the
// visitor.
func servedAt(t *testing.T, visitor lab.Pod, from, url, node string) {
	t.Helper()
	eventually(t, settled, fmt.Sprintf("%s asked from %s to be served on %s", url, from, node), func(ctx context.Context) error {
		var r probe.Report
		var err error
		if from == "a pod" {
			r = podAsks(t, visitor, url, "-n=5", "-timeout=1s")
		} else {
			r, err = cluster(t).Probe(ctx, from, url, "-n=5", "-timeout=1s")
		}
		if err == nil && (r.Failures > 0 || !slices.Equal(r.Nodes, []string{node})) {
			err = fmt.Errorf("by %v, %v", r.Nodes, r.Reasons)
		}
		return err
	})
}

// backWithin measures how long after its endpoint is ready the cluster serves the address
// again, with a pod that is there all the time.
func backWithin(t *testing.T, l *lab.Lab, visitor lab.Pod, vip string) {
	p := pods(t, "default", "app=anycast", 1)[0]
	ready := func(is bool) {
		t.Helper()
		if out, err := get(t.Context(), l, p.Node, "-post", fmt.Sprintf("http://%s/ready?ok=%t", net.JoinHostPort(p.IPs[0], "8080"), is)); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	ready(false)
	servedAt(t, visitor, "a pod", demo.URL(vip, 80), otherCluster)
	ready(true)
	kubectl(t, "wait", "--for=condition=Ready", "pod/"+p.Name, "--timeout=1m")
	began := time.Now()
	servedAt(t, visitor, "a pod", demo.URL(vip, 80), p.Node)
	t.Logf("served by this cluster %s after its pod was ready", time.Since(began).Round(time.Millisecond))
}
