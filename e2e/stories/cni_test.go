package stories

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
)

// kept is a Service with one endpoint on each node, and a pod on each that is in no Service.
type kept struct {
	*lab.Lab
	vips, clusterIPs []string
	askers           []lab.Pod
}

func keptService(t *testing.T) kept {
	t.Helper()
	l := cluster(t)
	electable(t)
	applyFile(t, "cni.yaml")
	pods(t, "default", "app=kept", len(l.Nodes()))
	k := kept{Lab: l, askers: pods(t, "default", "app=asker", len(l.Nodes()))}
	externalIP(t, "kept")
	k.vips = strings.Fields(kubectl(t, "get", "service", "kept", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}"))
	k.clusterIPs = strings.Fields(kubectl(t, "get", "service", "kept", "-o", "jsonpath={.spec.clusterIPs[0]} {.spec.clusterIPs[1]}"))
	if len(k.vips) != 2 || len(k.clusterIPs) != 2 {
		t.Fatalf("addresses %v and %v, want two of each", k.vips, k.clusterIPs)
	}
	forgotten(t, k.vips...)
	return k
}

// sees waits until the pods answer host, and see it with its own addresses.
func (k kept) sees(t *testing.T, host string) {
	t.Helper()
	for _, vip := range k.vips {
		eventually(t, settled, vip+" to see "+host, func(ctx context.Context) error {
			r, err := k.Probe(ctx, host, demo.URL(vip, 80), "-n=20", "-c=4", "-timeout=1s")
			if err == nil && (r.Failures > 0 || len(r.Clients) != 1 || !slices.Contains(clients[host], r.Clients[0])) {
				err = fmt.Errorf("%d of %d requests failed %v, the pods saw %v", r.Failures, r.Requests, r.Reasons, r.Clients)
			}
			return err
		})
	}
}

// Pods reach a ClusterIP with their own addresses whatever gave them these, also pods that
// are in no EndpointSlice. No option says how a node knows its pods, and doctor finds none
// that a node does not know.
func TestPodsKeepTheirAddressesInTheCluster(t *testing.T) {
	k := keptService(t)
	for _, p := range k.askers {
		for i, ip := range k.clusterIPs {
			r := podAsks(t, p, demo.URL(ip, 80), "-n=60")
			wantAll(t, r, len(k.askers))
			wantClient(t, r, p.IPs[i])
		}
		for _, vip := range k.vips {
			wantAll(t, podAsks(t, p, demo.URL(vip, 80), "-n=60"), len(k.askers))
		}
	}
	for host := range clients {
		k.sees(t, host)
	}
	if out, _ := fairlead(t, "doctor"); strings.Contains(out, "FL0414") {
		t.Errorf("doctor says\n%s", out)
	}
	out, _ := fairlead(t, "status")
	t.Logf("%s", out)
}

// A NetworkPolicy judges clients from outside by their own addresses where the Service
// keeps these: one is answered, the other is not, until the policy is gone.
func TestNetworkPolicySeesTheClient(t *testing.T) {
	families := cluster(t).Policies()
	if families == 0 {
		t.Skip("nothing in this cluster enforces NetworkPolicies")
	}
	k := keptService(t)
	k.sees(t, lab.Ext)
	t.Run("policy", func(t *testing.T) {
		applyFile(t, "policy.yaml")
		for _, vip := range k.vips[:families] {
			eventually(t, settled, vip+" not to answer "+lab.Ext, func(ctx context.Context) error {
				r, err := k.Probe(ctx, lab.Ext, demo.URL(vip, 80), "-n=12", "-c=12", "-timeout=1s")
				if err == nil && r.Failures != r.Requests {
					err = fmt.Errorf("%d of %d requests were answered", r.Requests-r.Failures, r.Requests)
				}
				return err
			})
		}
		k.sees(t, lab.Client)
	})
	k.sees(t, lab.Ext)
}
