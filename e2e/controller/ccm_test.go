package controller_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// ccm is a running fairlead-ccm.
type ccm struct {
	*shipped
	port int
}

// startCCM runs the shipped binary until stop or the end of the test.
func (c *cluster) startCCM(more ...string) *ccm {
	c.Helper()
	port := freePort(c)
	args := append([]string{"--kubeconfig=" + server.Kubeconfig, fmt.Sprintf("--secure-port=%d", port), "--bind-address=127.0.0.1",
		"--leader-elect-resource-namespace=default", "--authorization-always-allow-paths=/healthz,/metrics", "-v=2"}, more...)
	return &ccm{port: port, shipped: c.ship("fairlead-ccm", args...)}
}

func freePort(c *cluster) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	c.must(err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// page reads one of the framework's own endpoints.
func (m *ccm) page(path string) (string, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(m.c.Context(), http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d%s", m.port, path), nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		err = errors.Join(err, errors.New(resp.Status))
	}
	return string(body), err
}

// TestCCM: Kubernetes' own service controller over our provider gives, moves and
// frees addresses, refuses with a reason, and does not touch what has a class, nor
// Nodes unless it was told to.
func TestCCM(t *testing.T) {
	c := newCluster(t)
	c.forgetLease()
	c.pool("lan", "192.0.2.0/31")
	waiting := c.node("waiting", "192.0.2.77", corev1.Taint{Key: uninitialized, Value: "true", Effect: corev1.TaintEffectNoSchedule})
	m := c.startCCM()
	c.service("web")
	c.holds("web", "192.0.2.0")
	c.condition("web", "True Assigned")
	c.pooled("lan", "2/1/1 PoolReady")
	if s := c.get("web"); !slices.Equal(s.Finalizers, []string{v1alpha1.FinalizerClassless}) || !isVIP(s.Status.LoadBalancer.Ingress[0]) {
		t.Errorf("finalizers %q, status %+v", s.Finalizers, s.Status.LoadBalancer)
	}
	c.service("classed", classed(v1alpha1.LoadBalancerClass))
	c.service("other", note(v1alpha1.AnnotationAddresses, "192.0.2.1"))
	c.holds("other", "192.0.2.1")
	c.service("waits")
	c.condition("waits", "False PoolExhausted")
	c.eventually("Event of waits", func() error {
		if e := c.events("waits"); !slices.Contains(e, "Warning SyncLoadBalancerFailed") {
			return fmt.Errorf("%q", e)
		}
		return nil
	})
	c.edit("web", note(v1alpha1.AnnotationAddresses, "192.0.2.1"))
	c.condition("web", "True AddressInUse")
	c.holds("web", "192.0.2.0")

	c.edit("other", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeClusterIP, nil
	})
	c.holds("other", "")
	c.holds("web", "192.0.2.1")
	c.holds("waits", "192.0.2.0")
	c.delete("web")
	c.gone("web")
	c.delete("waits")
	c.gone("waits")
	c.noRecords()
	if s := c.get("classed"); len(s.Finalizers) > 0 || len(s.Status.Conditions) > 0 || len(c.events("classed")) > 0 {
		t.Errorf("a Service with a class was touched: %v", s)
	}
	if n := c.getNode("waiting"); n.ResourceVersion != waiting.ResourceVersion {
		t.Errorf("a Node was touched: %+v", n)
	}
	m.endpoints()
}

// TestModeChange: an installation runs as a cloud provider instead of as the controller,
// and the other way round. A Service with a class loses all that the controller gave it.
// Those without keep their addresses. What is free goes to who waits.
func TestModeChange(t *testing.T) {
	c := newCluster(t)
	c.forgetLease()
	c.pool("lan", "192.0.2.0/31")
	r := c.start(options)
	c.service("plain")
	c.holds("plain", "192.0.2.0")
	c.service("classed", classed(v1alpha1.LoadBalancerClass))
	c.holds("classed", "192.0.2.1")
	c.service("waits")
	c.refused("waits", "PoolExhausted")
	r.settled()
	r.stop()
	c.edit("classed", func(s *corev1.Service) { s.Finalizers = append(s.Finalizers, v1alpha1.FinalizerClassed) })

	m := c.startCCM()
	c.holds("waits", "192.0.2.1")
	c.holds("plain", "192.0.2.0")
	c.bare("classed")
	m.stop()

	c.start(options)
	c.refused("classed", "PoolExhausted")
	c.holds("waits", "192.0.2.1")
	c.delete("plain")
	c.gone("plain")
	c.holds("classed", "192.0.2.0")
	c.delete("waits")
	c.gone("waits")
}

// bare waits until nothing of ours is on a Service, nor in a record of it.
func (c *cluster) bare(name string) {
	c.Helper()
	c.eventually(name, func() error {
		if s := c.get(name); ips(s) != "" || len(s.Status.Conditions) > 0 || len(s.Finalizers) > 0 || c.recorded(s) != "" {
			return fmt.Errorf("finalizers %q, status %+v, records %q", s.Finalizers, s.Status, c.recorded(s))
		}
		return nil
	})
}

// endpoints checks what the framework serves and the Lease that it holds.
func (m *ccm) endpoints() {
	if body, err := m.page("/healthz"); err != nil || body != "ok" {
		m.c.Errorf("/healthz: %q, %v", body, err)
	}
	body, err := m.page("/metrics")
	m.c.must(err)
	for _, want := range []string{`fairlead_pool_addresses{ip_family="IPv4",pool="lan",state="total"} 2`, "fairlead_controller_decide_duration_seconds_count", "fairlead_controller_leading 1", "workqueue_adds_total"} {
		if !strings.Contains(body, want) {
			m.c.Errorf("/metrics lacks %s", want)
		}
	}
	leases, err := m.c.Kube.CoordinationV1().Leases("").List(m.c.Context(), metav1.ListOptions{})
	m.c.must(err)
	for _, l := range leases.Items {
		if l.Name == "cloud-controller-manager" {
			m.c.Error("the Lease of the cluster's real cloud controller manager is taken")
		}
	}
	if _, err := m.c.Kube.CoordinationV1().Leases("default").Get(m.c.Context(), "fairlead-ccm", metav1.GetOptions{}); err != nil {
		m.c.Error(err)
	}
}

// forgetLease lets the next one lead at once: the framework does not give its
// Lease back.
func (c *cluster) forgetLease() {
	_ = c.Kube.CoordinationV1().Leases("default").Delete(context.Background(), "fairlead-ccm", metav1.DeleteOptions{})
}
