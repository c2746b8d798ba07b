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

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
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

// A node loses power: others take its addresses over, within a bound, and give
// them back when it returns.
func TestNodeWithoutPowerOthersTakeItsAddressesAndGiveThemBack(t *testing.T) {
	l := cluster(t)
	s := web(t)
	vip := s.ExternalIPs[0]
	node := announcer(t, vip)
	all, err := l.StartProbe(t.Context(), lab.Client, demo.URL(vip, 80), "-c=2", "-i=100ms", "-timeout=1s")
	if err != nil {
		t.Fatal(err)
	}
	powerOnAtTheEnd(t, node)
	powerOff(t, node)
	began := time.Now()
	for _, ip := range s.ExternalIPs {
		eventually(t, takeOver, ip+" at another node", func(ctx context.Context) error {
			return servedBy(ctx, ip, func(at string) bool { return at != node })
		})
	}
	t.Logf("the addresses are at other nodes, and every request is answered, after %s", time.Since(began).Round(time.Second))
	r, err := all.Stop()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("of %d requests meanwhile %d failed %v, the longest time without an answer was %.0f s", r.Requests, r.Failures, r.Reasons, r.Gap/1000)
	began = time.Now()
	if err := l.StartNode(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	eventually(t, takeOver, vip+" back at "+node, func(ctx context.Context) error {
		return servedBy(ctx, vip, func(at string) bool { return at == node })
	})
	t.Logf("%s is back at %s after %s", vip, node, time.Since(began).Round(time.Second))
	settle(t, s)
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

// A whole node restarts while no API server answers. Kubernetes starts no pod
// there, the agent's neither. Started by hand, the agent forwards and announces
// from what was saved before the power went.
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
	if r := hostAsks(t, lab.Client, demo.URL(vip, 80), "-n=4", "-c=4", "-timeout=1s"); r.Failures != r.Requests {
		t.Errorf("%s is served though its node runs no agent: %+v", vip, r)
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
	if at := announcer(t, vip); at != node {
		t.Errorf("%s is at %s, want %s", vip, at, node)
	}
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
