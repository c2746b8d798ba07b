package stories

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	election "github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/e2e/probe"
)

// takeOver bounds how long the others take to miss a node and to replace it.
const takeOver = 5 * time.Minute

func powerOff(t *testing.T, node string) {
	t.Helper()
	if err := cluster(t).StopNode(t.Context(), node); err != nil {
		t.Fatal(err)
	}
}

// powerOnAtTheEnd makes sure that the story leaves the node as it found it.
func powerOnAtTheEnd(t *testing.T, node string) {
	t.Helper()
	l := cluster(t)
	undo(t, func(ctx context.Context) error {
		if err := l.StopFairlead(ctx, node); err != nil {
			return err
		}
		if l.NodeRuns(node) {
			return l.WaitNode(ctx, node, time.Now())
		}
		return l.StartNode(ctx, node)
	})
}

// A node loses power: others take its addresses over in an instant, connections no
// longer go to its pods, and the addresses come back when it has been healthy for a
// minute, while requests go on.
func TestNodeWithoutPowerOthersTakeItsAddressesAndGiveThemBack(t *testing.T) {
	l := cluster(t)
	s := web(t)
	vip := s.ExternalIPs[0]
	node := announcer(t, vip)
	settledElsewhere(t, node)
	lost := everyPath(t, s, time.Second)
	powerOnAtTheEnd(t, node)
	powerOff(t, node)
	time.Sleep(3 * time.Second) // that long requests are watched
	for i, r := range lost() {
		t.Logf("%s: of %d requests %d failed %v, the longest time without an answer was %.0f ms", r.Target, r.Requests, r.Failures, r.Reasons, r.Gap)
		if limit := 5000.0; r.Gap > limit { // a noisy machine; make bench WHAT=failover holds it to 1 s
			t.Errorf("path %d: no answer for %.0f ms", i, r.Gap)
		}
	}
	for _, ip := range s.ExternalIPs {
		eventually(t, settled, ip+" at another node", func(ctx context.Context) error {
			return servedBy(ctx, ip, func(at string) bool { return at != node })
		})
	}
	quarantined(t, node)
	began := time.Now()
	if err := l.StartNode(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	for _, ip := range s.ExternalIPs {
		answersTo(t, lab.Client, demo.URL(ip, 80), 6)
	}
	back := everyPath(t, s, 10*time.Second)
	eventually(t, takeOver, vip+" back at "+node, func(ctx context.Context) error {
		return servedBy(ctx, vip, func(at string) bool { return at == node })
	})
	took := time.Since(began).Round(time.Second)
	t.Logf("%s is back at %s %s after the power", vip, node, took)
	if took < election.SettleAfter {
		t.Errorf("that is not a minute of health")
	}
	for _, r := range back() {
		// What is open when the address moves back ends: the node that takes it over
		// does not know the connection. None that begins is refused or lost, and it moves
		// back once.
		cut := r.Reasons["connection reset"] + r.Reasons["no answer"]
		if r.Failures > cut || r.LastFailure.Sub(r.FirstFailure) > time.Second || r.Distinct != 6 {
			t.Error(objection(r, 6))
		}
		t.Logf("%s: %d of %d requests were open when it moved back, the longest time without an answer was %.0f ms", r.Target, cut, r.Requests, r.Gap)
		if limit := 2000.0; r.Gap > limit {
			t.Errorf("%s: no answer for %.0f ms", r.Target, r.Gap)
		}
	}
	settle(t, s)
}

// settledElsewhere waits until the other nodes have been healthy for so long that this
// one, when it comes back, has to be as well.
func settledElsewhere(t *testing.T, node string) {
	t.Helper()
	for _, other := range cluster(t).Nodes() {
		if other == node {
			continue
		}
		eventually(t, settled, other+" healthy for a minute", func(ctx context.Context) error {
			began, err := metric(ctx, other, startTime)
			if err != nil {
				return err
			}
			if up := time.Since(time.Unix(int64(began), 0)); up < election.SettleAfter+5*time.Second {
				return fmt.Errorf("its agent has run for %s", up)
			}
			return nil
		})
	}
}

// everyPath has the client request both addresses at a pace until it is called.
func everyPath(t *testing.T, s demo.Service, timeout time.Duration) func() []probe.Report {
	t.Helper()
	return everyPathOf(t, lab.Client, s, timeout)
}

// everyPathOf is everyPath with another host as the client.
func everyPathOf(t *testing.T, host string, s demo.Service, timeout time.Duration) func() []probe.Report {
	t.Helper()
	var probers []*lab.Prober
	for _, ip := range s.ExternalIPs {
		p, err := cluster(t).StartProbe(t.Context(), host, demo.URL(ip, 80), "-every=20ms", "-timeout="+timeout.String())
		if err != nil {
			t.Fatal(err)
		}
		probers = append(probers, p)
	}
	return func() (out []probe.Report) {
		t.Helper()
		for _, p := range probers {
			r, err := p.Stop()
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, r)
		}
		return out
	}
}

// quarantined waits until every other node says that the endpoints of node take no
// connection.
func quarantined(t *testing.T, node string) {
	t.Helper()
	for _, other := range cluster(t).Nodes() {
		if other == node {
			continue
		}
		eventually(t, settled, "quarantine at "+other, func(context.Context) error {
			got := kubectl(t, "get", "nodestate", other, "-o", "jsonpath={.status.silent}")
			if !strings.Contains(got, node) || !strings.Contains(got, `"quarantined":true`) {
				return fmt.Errorf("it says %q", got)
			}
			return nil
		})
	}
}

// servedBy objects unless every request to ip is answered and the node that
// announces it is as it should be.
func servedBy(ctx context.Context, ip string, right func(node string) bool) error {
	r, err := shared.Probe(ctx, lab.Client, demo.URL(ip, 80), "-n=60", "-c=10", "-timeout=1s")
	if err != nil {
		return err
	}
	if r.Failures > 0 {
		return fmt.Errorf("%d of %d requests failed %v", r.Failures, r.Requests, r.Reasons)
	}
	a, err := demo.FindAnnouncer(ctx, shared, ip)
	if err == nil && !right(a.Node) {
		err = fmt.Errorf("it is at %s", a.Node)
	}
	return err
}

// A whole node restarts while no API server answers. Others take its addresses.
// Kubernetes starts no pod there, the agent's neither. Started by hand, the agent
// forwards from what was saved before the power went, and speaks with the others.
func TestNodeRestartedWithoutAPIServerForwardsWhatItsAgentSaved(t *testing.T) {
	l := cluster(t)
	s := web(t)
	vip := s.ExternalIPs[0]
	node := announcer(t, vip)
	other := l.Nodes()[0]
	if other == node {
		other = l.Nodes()[1]
	}
	// The pods are elsewhere: those of the node will be gone.
	kubectl(t, "patch", "deployment", "web", "--patch", fmt.Sprintf(`{"spec":{"template":{"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"kubernetes.io/hostname","operator":"NotIn","values":[%q]}]}]}}}}}}}`, node))
	kubectl(t, "rollout", "status", "deployment/web", "--timeout=2m")
	savedHasAll(t, node, s)
	answersTo(t, lab.Client, demo.URL(vip, 80), 6)
	all, err := l.StartProbe(t.Context(), lab.Client, demo.URL(l.NodeAddress(other), s.NodePort), "-c=1", "-i=50ms")
	if err != nil {
		t.Fatal(err)
	}
	powerOnAtTheEnd(t, node)
	stopAPI(t)
	powerOff(t, node)
	if err := l.PowerOnNode(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Minute, "kubelet of "+node, func(ctx context.Context) error {
		_, err := get(ctx, l, node, "http://127.0.0.1:10248/healthz")
		return err
	})
	tasks, err := l.Exec(t.Context(), node, "ctr", "--namespace=k8s.io", "tasks", "ls")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(tasks), "RUNNING") {
		t.Errorf("a kubelet without API server started pods:\n%s", tasks)
	}
	answersTo(t, lab.Client, demo.URL(vip, 80), 6)
	if at := announcer(t, vip); at == node {
		t.Errorf("%s is at %s, which runs no agent", vip, at)
	}

	said := timesSaid(t, node)
	if err := l.StartFairlead(node, "agent", "--node-name="+node, "--kubeconfig="+l.Kubeconfig()); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{demo.URL(vip, 80), demo.URL(l.NodeAddress(node), s.NodePort), demo.URL(l.NodeAddress6(node), s.NodePort)} {
		answersTo(t, lab.Client, target, 6)
		wantAll(t, hostAsks(t, lab.Client, target, "-n=200"), 6)
		wantAll(t, hostAsks(t, lab.Ext, target, "-n=200"), 6)
	}
	// The agent forwards before it speaks with the others.
	eventually(t, time.Minute, other+" hears all agents", func(context.Context) error {
		if n := metricNow(t, other, `fairlead_members{verdict="alive"}`); int(n) != l.Agents() {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	if now := timesSaid(t, node); now != said+1 {
		t.Errorf("the agent's log says %d times %q, %d before", now, fromSaved, said)
	}

	if err := l.StopFairlead(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	startAPI(t)
	if err := l.WaitNode(t.Context(), node, began); err != nil {
		t.Fatal(err)
	}
	agentOf(t, node)
	wantChangesApply(t)
	r, err := all.Stop()
	if err != nil {
		t.Fatal(err)
	}
	wantAll(t, r, 6)
	settle(t, s)
}

// timesSaid counts how often agents that were started by hand on a node said
// that they work from what was saved.
func timesSaid(t *testing.T, node string) int {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(cluster(t).Logs(), node+"-fairlead.log"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(log), fromSaved)
}
