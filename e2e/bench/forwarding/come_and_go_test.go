package forwarding

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// kube-proxy comes to a node on which fairlead forwards, and goes, as a program that no object
// of the cluster shows: as a part of k3s, or a static pod. The agent, which nobody tells,
// finds it, leaves the Services to it, and takes them back when it has ended and its rules are
// left. A client opens a hundred connections a second all the time, and none fails. The
// agent's process never ends.
func TestChangeOverWithoutADaemonSet(t *testing.T) {
	if os.Getenv("FAIRLEAD_E2E") != "1" {
		t.Skip("FAIRLEAD_E2E is not 1")
	}
	for _, mode := range []string{"nftables", "iptables"} {
		t.Run(mode, func(t *testing.T) { comeAndGo(t, mode) })
	}
}

func comeAndGo(t *testing.T, mode string) {
	c := newChangeOver(t)
	c.kubeProxy.args = c.inMode(mode)
	c.startAgent("--proxy=auto")
	c.wantSaid("Fairlead", "fairlead forwards")
	p := c.world.probe(t.Context(), 10*time.Millisecond, clusterIP(c.cluster.services[0]), c.cluster.nodePort(), vipPort())
	defer p.cancel()

	kubeProxy := c.startKubeProxyAnyMode()
	defer kubeProxy.stop()
	c.wantSaid("LeftToAnother", "kube-proxy (")
	c.wantForwards(false)
	c.wantAnswer("http://127.0.0.1:10256/healthz")
	kubeProxy.stop()
	c.wantSaid("LeftBehind", "no longer runs")
	c.wantForwards(true)
	c.wantAnswer("http://127.0.0.1:10256/healthz")
	c.run(append(c.kubeProxy.args, "--cleanup")...)
	c.wantSaid("Fairlead", "fairlead forwards")

	got := p.stop()
	t.Logf("%d connections, p99 %.2f ms, the longest took %.2f ms", got.made, ms(got.p99), ms(got.longest))
	if got.failed != nil {
		t.Errorf("%d connections failed, the first of them:\n%v", len(got.failed), errors.Join(got.failed[:min(10, len(got.failed))]...))
	}
	if err := c.agent.ended(); err != nil {
		t.Error(err)
	}
}

// inMode returns the command of kube-proxy in another mode.
func (c *changeOver) inMode(mode string) []string {
	c.Helper()
	path := strings.TrimPrefix(c.kubeProxy.args[1], "--config=")
	data, err := os.ReadFile(path)
	if err != nil {
		c.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(data, &config); err != nil {
		c.Fatal(err)
	}
	config["mode"] = mode
	if data, err = json.Marshal(config); err != nil {
		c.Fatal(err)
	}
	path = filepath.Join(c.TempDir(), "kube-proxy.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		c.Fatal(err)
	}
	return []string{c.kubeProxy.args[0], "--config=" + path}
}

// startKubeProxyAnyMode starts kube-proxy on what is there of it.
func (c *changeOver) startKubeProxyAnyMode() *process {
	c.Helper()
	p, err := c.kubeProxy.run(c.world, c.logs)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(p.stop)
	return p
}

// wantSaid waits until the NodeState has the reason, and a message with the text.
func (c *changeOver) wantSaid(reason, text string) {
	c.Helper()
	c.until(fmt.Sprintf("the NodeState to say %s", reason), func() error {
		if err := c.agent.ended(); err != nil {
			return fatal{err}
		}
		raw, err := c.cluster.client.Discovery().RESTClient().Get().AbsPath("/apis/fairlead.io/v1alpha1/nodestates/" + nodeName).DoRaw(c.Context())
		if err != nil {
			return err
		}
		var obj v1alpha1.NodeState
		if err := json.Unmarshal(raw, &obj); err != nil {
			return err
		}
		said := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionServiceProxy)
		if said == nil || said.Reason != reason || !strings.Contains(said.Message, text) {
			return fmt.Errorf("it says %+v", said)
		}
		return nil
	})
}
