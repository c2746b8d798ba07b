package stories

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/internal/kube"
)

// Pods are replaced in every way that people have, all at the same time, while
// clients go on.
func TestPodsAreReplacedAndNoClientNotices(t *testing.T) {
	l := cluster(t)
	clients, err := kube.Connect(kube.Access{Kubeconfig: l.Kubeconfig(), UserAgent: "stories"})
	if err != nil {
		t.Fatal(err)
	}
	electable(t)
	applyFile(t, "rollouts.yaml")
	for _, service := range []string{"rolling-cluster", "rolling-local", "single", "gated"} {
		forgotten(t, externalIP(t, service))
	}
	for _, one := range []struct {
		name string
		test func(*testing.T, kubernetes.Interface)
	}{
		{"rolling update of a DaemonSet (spec 39)", rollingUpdate},
		{"UDP client with one socket (spec 40)", oneSocket},
		{"endpoint lag (spec 93) and propagation (spec 94)", lag},
		{"blue and green with readiness gates (spec 95)", blueGreen},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			one.test(t, clients.Kube)
		})
	}
}

// Every pod of a DaemonSet is replaced, a node at a time, with a request every
// ten milliseconds to an address of each policy: at least 99 of 100 are answered.
func rollingUpdate(t *testing.T, _ kubernetes.Interface) {
	l := cluster(t)
	pods(t, "default", "app=rolling", len(l.Nodes()))
	probers := map[string]*lab.Prober{}
	for _, name := range []string{"rolling-cluster", "rolling-local"} {
		target := demo.URL(externalIP(t, name), 80)
		eventually(t, settled, name+" to answer", func(ctx context.Context) error {
			r, err := l.Probe(ctx, lab.Client, target, "-n=20", "-timeout=1s")
			if err == nil && r.Failures > 0 {
				err = fmt.Errorf("%d of %d requests failed %v", r.Failures, r.Requests, r.Reasons)
			}
			return err
		})
		var err error
		if probers[name], err = l.StartProbe(t.Context(), lab.Client, target, "-every=10ms"); err != nil {
			t.Fatal(err)
		}
	}
	kubectl(t, "rollout", "restart", "daemonset/rolling")
	kubectl(t, "rollout", "status", "daemonset/rolling", "--timeout=5m")
	pods(t, "default", "app=rolling", len(l.Nodes()))
	for name, p := range probers {
		r, err := p.Stop()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d of %d requests failed %v, %d pods answered", name, r.Failures, r.Requests, r.Reasons, r.Distinct)
		if r.Failures*100 > r.Requests || r.Requests < 100 {
			t.Errorf("%s: %d of %d requests failed %v, from %s to %s", name, r.Failures, r.Requests, r.Reasons,
				r.FirstFailure.Format(time.StampMilli), r.LastFailure.Format(time.StampMilli))
		}
	}
}

// The only server is replaced by one on another node, and by one on the same: a
// client that keeps its socket is answered by each.
func oneSocket(t *testing.T, _ kubernetes.Interface) {
	l := cluster(t)
	target := "udp://" + net.JoinHostPort(externalIP(t, "single"), "53")
	answersTo(t, lab.Client, target, 1)
	seen := []string{pods(t, "default", "app=single", 1)[0].Name}
	p, err := l.StartProbe(t.Context(), lab.Client, target, "-keep", "-c=1", "-i=20ms", "-timeout=500ms")
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []string{`{"nodeName":"node2"}`, `{"terminationGracePeriodSeconds":21}`} {
		kubectl(t, "patch", "deployment", "single", "--patch", `{"spec":{"template":{"spec":`+change+`}}}`)
		kubectl(t, "rollout", "status", "deployment/single", "--timeout=5m")
		eventually(t, settled, "the old server to be gone", func(ctx context.Context) error {
			_, err := l.Kubectl(ctx, "wait", "--for=delete", "pod/"+seen[len(seen)-1], "--timeout=60s")
			return err
		})
		seen = append(seen, pods(t, "default", "app=single", 1)[0].Name)
		answersTo(t, lab.Client, target, 1)
	}
	r, err := p.Stop()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d datagrams without an answer, the longest time without one %.0f ms; answers by %v", r.Failures, r.Requests, r.Gap, r.Pods)
	for _, name := range seen {
		if r.Pods[name] == 0 {
			t.Errorf("%s never answered the client's socket", name)
		}
	}
	if r.Failures*100 > r.Requests {
		t.Errorf("%d of %d datagrams without an answer %v", r.Failures, r.Requests, r.Reasons)
	}
}

// Kubernetes' own bounds are 30 s until an endpoint that became unready gets
// nothing more, and a median of 20 s and a 99th percentile of 50 s from a new
// Service until it answers.
func lag(t *testing.T, client kubernetes.Interface) {
	l := cluster(t)
	two, node := pods(t, "default", "app=lag", 2), l.Nodes()[0]
	inside := demo.URL(kubectl(t, "get", "service", "lag", "-o", "jsonpath={.spec.clusterIP}"), 80)
	answersTo(t, node, inside, 2)
	began := time.Now()
	if _, err := get(t.Context(), l, node, "-post", demo.URL(two[0].IPs[0], 8080)+"ready?ok=false"); err != nil {
		t.Fatal(err)
	}
	answersTo(t, node, inside, 1)
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("an endpoint was reached %s after it became unready", took)
	} else {
		t.Logf("out %s after it became unready (its probe takes up to 1 s of that)", took.Round(10*time.Millisecond))
	}
	var waits []time.Duration
	for i := range 20 {
		waits = append(waits, newService(t, client, fmt.Sprintf("lag-%d", i), node))
	}
	slices.Sort(waits)
	p50, p99 := waits[len(waits)/2], waits[len(waits)-1]
	t.Logf("from the creation of a Service until it answers on a node: median %s, longest %s", p50.Round(time.Millisecond), p99.Round(time.Millisecond))
	if p50 > 5*time.Second || p99 > 15*time.Second {
		t.Errorf("from the creation of a Service until it answers on a node: median %s, longest %s", p50, p99)
	}
}

// newService makes a Service for the length of the story, and returns how long it
// took until it answered on a node.
func newService(t *testing.T, client kubernetes.Interface, name, node string) time.Duration {
	t.Helper()
	services := client.CoreV1().Services("default")
	began := time.Now()
	svc, err := services.Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "lag"}, Ports: []corev1.ServicePort{{Port: 8080}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	undo(t, func(ctx context.Context) error { return services.Delete(ctx, name, metav1.DeleteOptions{}) })
	eventually(t, settled, name+" to answer", func(ctx context.Context) error {
		r, err := cluster(t).Probe(ctx, node, demo.URL(svc.Spec.ClusterIP, 8080), "-n=1", "-timeout=200ms")
		if err == nil && r.Failures > 0 {
			err = fmt.Errorf("%v", r.Reasons)
		}
		return err
	})
	return time.Since(began)
}

// Somebody else decides which of two pods is ready, and changes his mind: first
// the other one is ready, then the one is not. No request fails.
func blueGreen(t *testing.T, client kubernetes.Interface) {
	l := cluster(t)
	target := demo.URL(externalIP(t, "gated"), 80)
	eventually(t, settled, "both pods to run", func(ctx context.Context) error {
		_, err := l.Kubectl(ctx, "wait", "--for=condition=ContainersReady", "pod/blue", "pod/green", "--timeout=60s")
		return err
	})
	choose(t, client, "blue", true)
	onlyAnswers(t, target, "blue")
	p, err := l.StartProbe(t.Context(), lab.Client, target, "-every=10ms")
	if err != nil {
		t.Fatal(err)
	}
	now, next := "blue", "green"
	for range 4 {
		choose(t, client, next, true)
		choose(t, client, now, false)
		onlyAnswers(t, target, next)
		now, next = next, now
	}
	r, err := p.Stop()
	if err != nil {
		t.Fatal(err)
	}
	wantAll(t, r, 2)
	t.Logf("%d requests, answers by %v", r.Requests, r.Pods)
}

// choose opens or closes a pod's readiness gate and waits until its endpoint
// says so.
func choose(t *testing.T, client kubernetes.Interface, name string, yes bool) {
	t.Helper()
	status := corev1.ConditionFalse
	if yes {
		status = corev1.ConditionTrue
	}
	eventually(t, settled, "the gate of "+name, func(ctx context.Context) error {
		pod, err := client.CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		pod.Status.Conditions = slices.DeleteFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == "example.com/chosen" })
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: "example.com/chosen", Status: status})
		_, err = client.CoreV1().Pods("default").UpdateStatus(ctx, pod, metav1.UpdateOptions{})
		return err
	})
	eventually(t, settled, "the endpoint of "+name, func(ctx context.Context) error {
		out, err := shared.Kubectl(ctx, "get", "endpointslices", "-l", "kubernetes.io/service-name=gated",
			`-o=jsonpath={range .items[*].endpoints[*]}{.targetRef.name}={.conditions.ready} {end}`)
		if err == nil && !slices.Contains(strings.Fields(string(out)), fmt.Sprintf("%s=%v", name, yes)) {
			err = errors.New(string(out))
		}
		return err
	})
}

func onlyAnswers(t *testing.T, target, pod string) {
	t.Helper()
	eventually(t, settled, pod+" alone to answer", func(ctx context.Context) error {
		r, err := cluster(t).Probe(ctx, lab.Client, target, "-n=30", "-timeout=1s")
		if err == nil && r.Pods[pod] != r.Requests {
			err = fmt.Errorf("%d of %d requests failed %v; answers by %v", r.Failures, r.Requests, r.Reasons, r.Pods)
		}
		return err
	})
}

// A new version of the agent is rolled out, a node at a time: nothing is lost on
// any path, by new connections nor by those that are open.
func TestAgentsAreRolledOutAndNoConnectionFails(t *testing.T) {
	s := web(t)
	w := watch(t, s)
	kubectl(t, "-n", lab.FairleadNamespace, "rollout", "restart", "daemonset/fairlead-agent")
	kubectl(t, "-n", lab.FairleadNamespace, "rollout", "status", "daemonset/fairlead-agent", "--timeout=5m")
	w.wantUnharmed(t)
}
