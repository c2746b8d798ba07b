package stories

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
)

// stopAPI stops the API server. The story's end starts it if the story did not, and has
// the kubelets hear of it at once.
func stopAPI(t *testing.T) {
	t.Helper()
	l := cluster(t)
	undo(t, func(ctx context.Context) error {
		if !l.APIServerRuns() {
			if err := l.StartAPIServer(ctx); err != nil {
				return err
			}
		}
		return restartKubelets(ctx, l)
	})
	if err := l.StopAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func startAPI(t *testing.T) {
	t.Helper()
	if err := cluster(t).StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// restartKubelets kills every kubelet, which starts again, while its pods go on. A kubelet
// that reached no API server for a minute waits up to another minute before it asks for
// its pods again, and the next story would wait for that.
func restartKubelets(ctx context.Context, l *lab.Lab) error {
	for _, node := range l.Nodes() {
		if !l.NodeRuns(node) {
			continue // the story failed while it was without power
		}
		if _, err := l.Exec(ctx, node, "sh", "-c", `! pid=$(pidof kubelet) || kill -KILL "$pid"`); err != nil {
			return err
		}
	}
	return nil
}

// For a minute no API server answers, and not one request fails, on no path. An agent
// that starts meanwhile works from what the last one saved, and makes again what is
// destroyed. When the API server is back, changes apply.
func TestAPIServerAwayForAMinuteNotOneRequestFails(t *testing.T) {
	l := cluster(t)
	s := web(t)
	node := announcer(t, s.ExternalIPs[0])
	savedHasAll(t, node, s)
	p, before, began := agentOf(t, node), kernel(t, node), metricNow(t, node, startTime)
	said := strings.Count(agentLog(t, node), fromSaved)
	from := visitor(t)
	w := watchBy(t, s, from)
	stopAPI(t)
	minute := time.After(time.Minute)
	if err := l.KillPod(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	nextAgent(t, node, began)
	if now := strings.Count(agentLog(t, node), fromSaved); now != said+1 {
		t.Errorf("the log says %d times %q, %d before", now, fromSaved, said)
	}
	wantEqual(t, before, kernel(t, node))
	<-minute
	w.wantUnharmed(t)
	for _, family := range []string{"ip", "ip6", "netdev"} {
		if _, err := l.Exec(t.Context(), node, "nft", "delete", "table", family, "fairlead"); err != nil {
			t.Fatal(err)
		}
	}
	for _, ip := range s.ExternalIPs {
		answersTo(t, lab.Client, demo.URL(ip, 80), 6)
	}
	wantEqual(t, endpoints(before), endpoints(kernel(t, node)))
	w = watchBy(t, s, from)
	startAPI(t)
	wantChangesApply(t)
	w.wantUnharmed(t)
}

// wantChangesApply makes a Service for the pods of the examples and waits until
// it answers.
func wantChangesApply(t *testing.T) {
	t.Helper()
	began := time.Now()
	applyFile(t, "later.yaml")
	answersTo(t, lab.Client, demo.URL(externalIP(t, "later"), 80), 6)
	t.Logf("a new Service answers after %s", time.Since(began).Round(time.Second))
}
