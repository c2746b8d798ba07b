package stories

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/internal/saved"
)

// agentOf is the agent's pod on a node.
func agentOf(t *testing.T, node string) lab.Pod {
	t.Helper()
	for _, p := range pods(t, lab.FairleadNamespace, "app.kubernetes.io/component=agent", cluster(t).Agents()) {
		if p.Node == node {
			return p
		}
	}
	t.Fatalf("no agent on %s", node)
	return lab.Pod{}
}

// Where an agent has its metrics on its node: in kube-proxy's place if it forwards,
// and beside its probes always.
const (
	proxyAddress = "127.0.0.1:10249"
	probeAddress = "127.0.0.1:9812"
)

// metric reads a number from the agent of a node that forwards; the error is
// lab.ErrNoMetric if there is none.
func metric(ctx context.Context, node, name string) (float64, error) {
	return metricAt(ctx, node, proxyAddress, name)
}

func metricAt(ctx context.Context, node, address, name string) (float64, error) {
	return shared.Metric(ctx, node, address, name)
}

func metricNow(t *testing.T, node, name string) float64 {
	t.Helper()
	v, err := metric(t.Context(), node, name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

const startTime = "process_start_time_seconds"

// nextAgent waits until another process than the one that started at before has
// programmed the node.
func nextAgent(t *testing.T, node string, before float64) {
	t.Helper()
	eventually(t, 5*time.Minute, "the next agent of "+node, func(ctx context.Context) error {
		began, err := metric(ctx, node, startTime)
		if err == nil && began == before {
			err = errors.New("the old one is there")
		}
		if err != nil {
			return err
		}
		_, err = get(ctx, shared, node, "http://127.0.0.1:10256/readyz")
		return err
	})
}

// kernel is all that a node's kernel holds of fairlead's forwarding.
func kernel(t *testing.T, node string) string {
	t.Helper()
	return ruleset(t, node, "ip") + ruleset(t, node, "ip6")
}

// An agent dies, or is replaced: connections go on and new ones are made, and
// the next agent finds everything right and changes nothing.
func TestAgentKilledConnectionsGoOnAndTheNextChangesNothing(t *testing.T) {
	l := cluster(t)
	s := web(t)
	node := announcer(t, s.ExternalIPs[0])
	for _, fault := range []struct {
		name string
		kill func(*testing.T, lab.Pod)
	}{
		{"SIGKILL", func(t *testing.T, p lab.Pod) {
			if err := l.KillPod(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}},
		{"pod deleted", func(t *testing.T, p lab.Pod) {
			kubectl(t, "delete", "pod", p.Name, "-n", p.Namespace)
		}},
		{"pod deleted without grace", func(t *testing.T, p lab.Pod) {
			kubectl(t, "delete", "pod", p.Name, "-n", p.Namespace, "--grace-period=0", "--force")
		}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			p, before, began := agentOf(t, node), kernel(t, node), metricNow(t, node, startTime)
			w := watch(t, s)
			fault.kill(t, p)
			nextAgent(t, node, began)
			wantEqual(t, before, kernel(t, node))
			for _, operation := range []string{"add", "delete"} {
				if n := metricNow(t, node, fmt.Sprintf("fairlead_engine_elements_total{operation=%q}", operation)); n != 0 {
					t.Errorf("the next agent's first look ended in %v x %s", n, operation)
				}
			}
			agentOf(t, node) // ready
			for _, ip := range s.ExternalIPs[:1] {
				if now := announcer(t, ip); now != node {
					t.Errorf("%s went from %s to %s", ip, node, now)
				}
			}
			w.wantUnharmed(t)
		})
	}
}

// wantEqual fails the story unless the kernel holds what it held before.
func wantEqual(t *testing.T, before, after string) {
	t.Helper()
	if before == after {
		t.Logf("the kernel holds the same %d lines", strings.Count(after, "\n"))
		return
	}
	lines := func(s string) []string { return strings.Split(s, "\n") }
	only := func(a, b []string) []string {
		return slices.DeleteFunc(a, func(line string) bool { return slices.Contains(b, line) })
	}
	t.Errorf("the kernel holds something else; only before:\n%s\nonly after:\n%s",
		strings.Join(only(lines(before), lines(after)), "\n"), strings.Join(only(lines(after), lines(before)), "\n"))
}

// endpoints lists which frontend of a ruleset has which endpoint. A ruleset that
// was created again may have them in other slots.
func endpoints(rules string) string {
	found := regexp.MustCompile(`([0-9a-f.:]+ \. )?(tcp|udp) \. \d+ : [0-9a-f.:]+ \. \d+`).FindAllString(rules, -1)
	slices.Sort(found)
	return strings.Join(slices.Compact(found), "\n")
}

// Somebody deletes the engine's tables: they are back at once, and the log says so.
func TestTableDeletedByHandIsRepairedAndSaid(t *testing.T) {
	l := cluster(t)
	s := web(t)
	node := announcer(t, s.ExternalIPs[0])
	for _, family := range []string{"ip", "ip6"} {
		t.Run(family, func(t *testing.T) {
			before, repairs := kernel(t, node), metricNow(t, node, "fairlead_engine_repairs_total")
			lines := strings.Count(agentLog(t, node), repaired)
			if _, err := l.Exec(t.Context(), node, "nft", "delete", "table", family, "fairlead"); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			eventually(t, time.Minute, "the repair", func(ctx context.Context) error {
				now, err := metric(ctx, node, "fairlead_engine_repairs_total")
				if err == nil && now != repairs+1 {
					err = fmt.Errorf("%v repairs, %v before", now, repairs)
				}
				return err
			})
			t.Logf("repaired after %s", time.Since(began).Round(100*time.Millisecond))
			wantEqual(t, endpoints(before), endpoints(kernel(t, node)))
			if now := strings.Count(agentLog(t, node), repaired); now != lines+1 {
				t.Errorf("the log says %d times %q, %d before", now, repaired, lines)
			}
			settle(t, s)
		})
	}
}

const repaired = "changed by somebody else; repaired"

// agentLog is what all agents of a node have said, read on the node.
func agentLog(t *testing.T, node string) string {
	t.Helper()
	out, err := cluster(t).Exec(t.Context(), node, "sh", "-c", "cat /var/log/pods/"+lab.FairleadNamespace+"_fairlead-agent-*/agent/*.log")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

const fromSaved = "forwarding and announcing from the snapshot that was saved"

// savedHasAll waits until the node's saved snapshot has the examples with all
// their addresses, and all their pods ready.
func savedHasAll(t *testing.T, node string, s demo.Service) {
	t.Helper()
	want := s.ExternalIPs
	for _, p := range pods(t, "default", "app=web", demo.Replicas) {
		want = append(want, p.IPs...)
	}
	eventually(t, settled, "the snapshot that "+node+" saves", func(ctx context.Context) error {
		out, err := shared.Exec(ctx, node, "cat", saved.Paths("/var/lib/fairlead")[0])
		if err != nil {
			return err
		}
		state, err := saved.Decode(out, node)
		if err != nil {
			return err
		}
		var has []string
		for _, svc := range state.Snapshot.Services {
			for _, in := range svc.Ingress {
				has = append(has, in.IP.String())
			}
			for _, e := range svc.Endpoints {
				if e.Ready {
					has = append(has, e.Addr.Addr().String())
				}
			}
		}
		for _, ip := range want {
			if !slices.Contains(has, ip) {
				return fmt.Errorf("%s is not in it", ip)
			}
		}
		return nil
	})
}
