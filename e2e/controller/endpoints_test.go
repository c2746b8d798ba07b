package controller_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
)

// testPods: a Service's endpoints follow its pods, of both families, from ready to
// gone, and who is to announce its addresses follows the endpoints. When a pod
// changed is known.
func (c *cluster) testPods() {
	c.kubelet("n1", "192.0.2.11/24", "2001:db8::11/64")
	c.kubelet("n2", "192.0.2.12/24", "2001:db8::12/64")
	c.pool("lan", "192.0.2.0/32", "2001:db8::/128")
	c.start(options)
	c.service("web", selecting("web"), func(s *corev1.Service) {
		both := corev1.IPFamilyPolicyRequireDualStack
		s.Spec.IPFamilyPolicy, s.Spec.ExternalTrafficPolicy = &both, corev1.ServiceExternalTrafficPolicyLocal
	})
	c.holds("web", "192.0.2.0,2001:db8::")
	none := "0 ready, 0 still serving while they end, 0 not ready: connections are rejected"
	c.explains("web", "IPv4: "+none, "IPv6: "+none, "nobody announces 192.0.2.0. NoEndpoint: no ready endpoint in the cluster")

	store := kube.NewStore(c.Clients, func() {})
	ctx, cancel := context.WithCancel(c.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- store.Run(ctx) }()
	defer func() { cancel(); c.must(<-stopped) }()
	c.eventually("the store", func() error {
		if !store.Synced() {
			return fmt.Errorf("not synced")
		}
		return nil
	})
	began := time.Now().Truncate(time.Second) // pods' conditions have seconds
	c.pod("web-1", "n1", "web", "10.0.1.2", "fd00::1:2")
	one := "1 ready, 0 still serving while they end, 0 not ready (n1: 1)"
	c.explains("web", "IPv4: "+one, "IPv6: "+one, "node n1 is elected")
	c.eventually("when the pod became ready", func() error {
		if _, at := store.Latest(); len(at) == 0 || at[len(at)-1].Before(began) || time.Since(at[len(at)-1]) > time.Minute {
			return fmt.Errorf("%v, and it began at %s", at, began)
		}
		return nil
	})

	c.pod("web-2", "n2", "web", "10.0.2.2", "fd00::2:2")
	c.explains("web", "IPv4: 2 ready, 0 still serving while they end, 0 not ready (n1: 1, n2: 1)")
	c.ready("web-1", false)
	c.explains("web", "IPv6: 1 ready, 0 still serving while they end, 1 not ready (n2: 1)", "node n2 is elected")
	c.ready("web-1", true)
	c.explains("web", "IPv4: 2 ready")

	// A kubelet lets the pod end, here none does.
	c.must(c.Kube.CoreV1().Pods("default").Delete(c.Context(), "web-1", metav1.DeleteOptions{}))
	c.explains("web", "IPv4: 1 ready, 1 still serving while they end, 0 not ready (n2: 1)", "node n2 is elected")
	c.deletePod("web-1")
	c.explains("web", "IPv4: 1 ready, 0 still serving while they end, 0 not ready (n2: 1)")
	c.deletePod("web-2")
	c.explains("web", "IPv4: "+none, "IPv6: "+none)
	if out, _ := c.run("", "status"); !strings.Contains(out, "no ready endpoint in the cluster") {
		c.Errorf("status does not say why nobody announces the address:\n%s", out)
	}
	c.delete("web")
	c.gone("web")
	c.slices("web", 0)
}

// testMirrored: Endpoints that somebody wrote for a Service without a selector are
// served.
func (c *cluster) testMirrored() {
	c.service("web")
	_, err := c.Kube.CoreV1().Endpoints("default").Create(c.Context(), &corev1.Endpoints{ //nolint:staticcheck // as people still do
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Subsets:    []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "10.0.9.9"}}, Ports: []corev1.EndpointPort{{Port: 8080}}}}, //nolint:staticcheck // see above
	}, metav1.CreateOptions{})
	c.must(err)
	c.explains("web", "1 ready, 0 still serving while they end, 0 not ready")
}

// testZones: the hints that the annotation service.kubernetes.io/topology-mode asks
// for keep packets in a node's zone.
func (c *cluster) testZones() {
	c.kubelet("n1", "192.0.2.11/24")
	c.kubelet("n2", "192.0.2.12/24")
	c.pool("lan", "192.0.2.0/32")
	c.start(options)
	c.service("web", selecting("web"), note(corev1.AnnotationTopologyMode, "Auto"))
	c.holds("web", "192.0.2.0")
	c.pod("web-1", "n1", "web", "10.0.1.2")
	c.pod("web-2", "n2", "web", "10.0.2.2")
	for node, want := range map[string]string{"n1": "10.0.1.2:80", "n2": "10.0.2.2:80"} {
		c.eventually("endpoints for node "+node, func() error {
			out, _ := c.run("", "trace", "--from=198.51.100.7", "--to=192.0.2.0:80", "--node="+node)
			if !strings.Contains(out, "forwarded to "+want+".") {
				return fmt.Errorf("want %s in\n%s", want, out)
			}
			return nil
		})
	}
	c.deletePod("web-1")
	c.deletePod("web-2")
}

// testLostNode: when a node's kubelet is silent its endpoints are not ready any more,
// and the node counts as before: whether it lives the agents tell.
func (c *cluster) testLostNode() {
	c.kubelet("n1", "192.0.2.11/24")
	die := c.kubelet("n2", "192.0.2.12/24")
	c.pool("lan", "192.0.2.0/32")
	c.start(options)
	c.service("web", selecting("web"))
	c.holds("web", "192.0.2.0")
	c.pod("web-1", "n1", "web", "10.0.1.2")
	c.pod("web-2", "n2", "web", "10.0.2.2")
	c.explains("web", "2 ready, 0 still serving while they end, 0 not ready (n1: 1, n2: 1)", "2 of 2 nodes may announce it")
	die()
	c.explains("web", "1 ready, 0 still serving while they end, 1 not ready (n1: 1)", "2 of 2 nodes may announce it")
	c.deletePod("web-1")
	c.deletePod("web-2")
}

// kubelet makes a ready node in a zone of its own, with an agent's NodeState, and
// renews the node's Lease until it dies.
func (c *cluster) kubelet(name string, addresses ...string) (die func()) {
	c.Helper()
	c.node(name, "")
	c.patchNode(name, `{"metadata":{"labels":{"topology.kubernetes.io/zone":"zone-`+name+`"}}}`)
	c.eventually("status of node "+name, func() error { // the node lifecycle controller writes too
		n := c.getNode(name)
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}}
		n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}
		_, err := c.Kube.CoreV1().Nodes().UpdateStatus(c.Context(), n, metav1.UpdateOptions{})
		return err
	})
	st, now := c.nodeState(name), metav1.NowMicro()
	st.Status.RenewTime, st.Status.Engine = &now, v1alpha1.EngineState{Mode: "nftables", InSync: true}
	st.Status.Links = []v1alpha1.NodeLink{{Name: "eth0", MAC: "02:00:00:00:00:01", Prefixes: addresses}}
	_, err := c.NodeStates.UpdateStatus(c.Context(), st, metav1.UpdateOptions{})
	c.must(err)
	c.Cleanup(func() {
		c.mustUnless(apierrors.IsNotFound, c.NodeStates.Delete(context.Background(), name, metav1.DeleteOptions{}))
	})
	return c.renew(name)
}

// renew renews a node's Lease, as its kubelet does, until die or the end of the
// test.
func (c *cluster) renew(node string) (die func()) {
	c.Helper()
	leases := c.Kube.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	var seconds int32 = 40
	now := metav1.NowMicro()
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: node}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &node, LeaseDurationSeconds: &seconds, RenewTime: &now}}
	c.eventually("Lease of "+node, func() (err error) { // its namespace comes with the API server
		lease, err = leases.Create(c.Context(), lease, metav1.CreateOptions{})
		return err
	})
	ctx, die := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() {
		ticker := time.NewTicker(500 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				stopped <- nil
				return
			case <-ticker.C:
			}
			now := metav1.NowMicro()
			lease.Spec.RenewTime = &now
			next, err := leases.Update(context.Background(), lease, metav1.UpdateOptions{})
			if err != nil {
				stopped <- err
				return
			}
			lease = next
		}
	}()
	c.Cleanup(func() {
		die()
		if err := <-stopped; err != nil {
			c.Error(err)
		}
		c.must(leases.Delete(context.Background(), node, metav1.DeleteOptions{}))
	})
	return die
}

// selecting gives a Service the pods with this label app.
func selecting(app string) change {
	return func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": app} }
}

// pod makes a ready pod on a node, as a scheduler and a kubelet do.
func (c *cluster) pod(name, node, app string, addresses ...string) {
	c.Helper()
	pods := c.Kube.CoreV1().Pods("default")
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": app}}, Spec: corev1.PodSpec{
		NodeName: node, Containers: []corev1.Container{{Name: "app", Image: "app"}},
	}}
	c.eventually("pod "+name, func() error { // refused until the namespace has its account
		_, err := pods.Create(c.Context(), p, metav1.CreateOptions{})
		return err
	})
	c.Cleanup(func() { c.deletePod(name) })
	c.podStatus(name, func(st *corev1.PodStatus) {
		st.Phase, st.PodIP = corev1.PodRunning, addresses[0]
		for _, a := range addresses {
			st.PodIPs = append(st.PodIPs, corev1.PodIP{IP: a})
		}
	})
	c.ready(name, true)
}

// ready makes a pod ready or not.
func (c *cluster) ready(pod string, ready bool) {
	c.Helper()
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	c.podStatus(pod, func(st *corev1.PodStatus) {
		st.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.Now()}}
	})
}

func (c *cluster) podStatus(name string, change func(*corev1.PodStatus)) {
	c.Helper()
	pods := c.Kube.CoreV1().Pods("default")
	c.eventually("status of pod "+name, func() error {
		p, err := pods.Get(c.Context(), name, metav1.GetOptions{})
		c.must(err)
		change(&p.Status)
		_, err = pods.UpdateStatus(c.Context(), p, metav1.UpdateOptions{})
		return err
	})
}

// deletePod deletes a pod at once, as a kubelet does when it has ended.
func (c *cluster) deletePod(name string) {
	c.Helper()
	c.mustUnless(apierrors.IsNotFound, c.Kube.CoreV1().Pods("default").Delete(context.Background(), name, *metav1.NewDeleteOptions(0)))
}

// explains waits until "fairlead explain" says all of this of a Service.
func (c *cluster) explains(service string, want ...string) {
	c.Helper()
	c.eventually("explanation of "+service, func() error {
		out, _ := c.run("", "explain", "default/"+service)
		for _, w := range want {
			if !strings.Contains(out, w) {
				return fmt.Errorf("want %q in\n%s", w, out)
			}
		}
		return nil
	})
}

// slices waits until a Service has as many EndpointSlices.
func (c *cluster) slices(service string, want int) {
	c.Helper()
	c.eventually("slices of "+service, func() error {
		list, err := c.Kube.DiscoveryV1().EndpointSlices("default").List(c.Context(), metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
		c.must(err)
		if len(list.Items) != want {
			return fmt.Errorf("%d, want %d", len(list.Items), want)
		}
		return nil
	})
}
