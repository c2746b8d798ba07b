package forwarding

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// changeOver is a node on which the proxies change.
type changeOver struct {
	*testing.T
	*Bench
	kubeProxy, fairlead contender
	agent               *process
}

// The real kube-proxy and the agent as it is shipped change places on a node and
// change back, in the order that docs/migrate-kube-proxy.md gives, while a client
// opens a hundred connections a second by cluster IP, node port and VIP. None
// fails.
func TestChangeOverFromKubeProxyAndBack(t *testing.T) {
	if os.Getenv("FAIRLEAD_E2E") != "1" {
		t.Skip("FAIRLEAD_E2E is not 1")
	}
	c := newChangeOver(t)
	c.daemonSet(true)
	kubeProxy := c.startKubeProxy()
	p := c.world.probe(t.Context(), 10*time.Millisecond, clusterIP(c.cluster.services[0]), c.cluster.nodePort(), vipPort())
	defer p.cancel()

	c.startAgent("--proxy=auto")
	c.wantTables(true, false)
	c.startAgent("--proxy=full", "--proxy-force")
	c.wantTables(true, true)
	c.daemonSet(false)
	kubeProxy.stop()
	c.run(append(slices.Clone(c.kubeProxy.args), "--cleanup")...)
	c.wantTables(false, true)
	c.startAgent("--proxy=full")
	c.wantAnswer("http://127.0.0.1:10256/healthz")

	c.startAgent("--proxy=full", "--proxy-force", "--health-address=0.0.0.0:10356", "--metrics-address=127.0.0.1:10349")
	c.daemonSet(true)
	kubeProxy = c.startKubeProxy()
	defer kubeProxy.stop()
	c.wantTables(true, true)
	c.startAgent("--proxy=off")
	c.wantTables(true, false)
	c.agent.stop()
	c.run(c.fairlead.args[0], "cleanup")
	pause(t.Context(), time.Second)

	got := p.stop()
	t.Logf("%d connections, p99 %.2f ms, the longest took %.2f ms", got.made, ms(got.p99), ms(got.longest))
	if got.made < 200 {
		t.Errorf("only %d connections were made", got.made)
	}
	if got.failed != nil {
		t.Errorf("%d connections failed, the first of them:\n%v", len(got.failed), errors.Join(got.failed[:min(10, len(got.failed))]...))
	}
}

// newChangeOver makes a node that has neither proxy.
func newChangeOver(t *testing.T) *changeOver {
	t.Helper()
	c := &changeOver{T: t, Bench: &Bench{Out: os.Stderr}}
	contenders, stop, err := c.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var err error
		if t.Failed() {
			err = fmt.Errorf("the test failed")
		}
		stop(&err)
		if err != nil {
			t.Error(err)
		}
	})
	c.kubeProxy, c.fairlead = contenders[0], contenders[1]
	if err := c.cluster.grow(t.Context(), 20); err != nil {
		t.Fatal(err)
	}
	return c
}

// daemonSet says to fairlead whether the cluster has kube-proxy.
func (c *changeOver) daemonSet(there bool) {
	c.Helper()
	sets := c.cluster.client.AppsV1().DaemonSets("kube-system")
	if !there {
		if err := sets.Delete(c.Context(), "kube-proxy", metav1.DeleteOptions{}); err != nil {
			c.Fatal(err)
		}
		return
	}
	labels := map[string]string{"k8s-app": "kube-proxy"}
	made, err := sets.Create(c.Context(), &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-proxy"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "kube-proxy", Image: "kube-proxy"}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		c.Fatal(err)
	}
	made.Status = appsv1.DaemonSetStatus{ObservedGeneration: made.Generation, DesiredNumberScheduled: 1, CurrentNumberScheduled: 1}
	if _, err := sets.UpdateStatus(c.Context(), made, metav1.UpdateOptions{}); err != nil {
		c.Fatal(err)
	}
}

// startKubeProxy starts it and waits until it has programmed.
func (c *changeOver) startKubeProxy() *process {
	c.Helper()
	p, err := c.kubeProxy.start(c.Context(), c.world, c.logs)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(p.stop)
	c.until("kube-proxy's first sync", func() error {
		_, ok, err := c.kubeProxy.programmed(c.Context(), c.world)
		if err == nil && !ok {
			err = fmt.Errorf("none yet")
		}
		return err
	})
	c.wantAnswer("http://127.0.0.1:10256/healthz")
	return p
}

// startAgent replaces the agent by one with other flags, as a rollout does, and
// waits until it is ready.
func (c *changeOver) startAgent(flags ...string) {
	c.Helper()
	if c.agent != nil {
		c.agent.stop()
	}
	if err := os.MkdirAll(c.fairlead.state, 0o755); err != nil {
		c.Fatal(err)
	}
	p, err := startProcess(c.world.node, nil, c.logs+"/fairlead.log", append(slices.Clone(c.fairlead.args), flags...)...)
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(p.stop)
	c.agent = p
	c.until(fmt.Sprintf("the agent with %q", flags), func() error {
		if err := p.ended(); err != nil {
			return fatal{err}
		}
		return c.answers("http://127.0.0.1:9812/readyz")
	})
}

// wantTables waits until the tables forward that are to, and no others.
func (c *changeOver) wantTables(kubeProxy, fairlead bool) {
	c.Helper()
	c.wantFound("nft list table ip "+c.kubeProxy.table, kubeProxy)
	c.wantForwards(fairlead)
}

// wantForwards waits until fairlead's table forwards, or does not. Beside kube-proxy it is
// there too, and guards VIPs alone.
func (c *changeOver) wantForwards(want bool) {
	c.Helper()
	c.wantFound("nft list set ip "+c.fairlead.table+" cluster-ips | grep -q elements", want)
}

// wantFound waits until a command finds something on the node, or does not.
func (c *changeOver) wantFound(look string, want bool) {
	c.Helper()
	c.until(fmt.Sprintf("%s: %v", look, want), func() error {
		err := c.world.node.run(c.Context(), "", "sh", "-c", look)
		if (err == nil) != want {
			return fmt.Errorf("it is not so: %w", err)
		}
		return nil
	})
}

func (c *changeOver) wantAnswer(url string) {
	c.Helper()
	c.until(url, func() error { return c.answers(url) })
}

// answers objects unless a URL answers 200 on the node.
func (c *changeOver) answers(url string) error {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return c.world.node.dial(ctx, network, address)
	}}
	req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	return nil
}

func (c *changeOver) run(args ...string) {
	c.Helper()
	if err := c.world.node.run(c.Context(), "", args...); err != nil {
		c.Fatal(err)
	}
}

func (c *changeOver) until(what string, check func() error) {
	c.Helper()
	if err := until(c.Context(), 50*time.Millisecond, patience, what, check); err != nil {
		c.Fatal(err)
	}
}
