package controller_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/internal/kube"
)

// cluster is what one test sees of the API server that all share: it begins and
// ends empty.
type cluster struct {
	*testing.T
	*kube.Clients
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	if server == nil {
		t.Skip("FAIRLEAD_E2E is not 1")
	}
	clients, err := kube.Connect(kube.Access{Kubeconfig: server.Kubeconfig, UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{T: t, Clients: clients}
	t.Cleanup(c.clear) // after all controllers of the test have stopped
	return c
}

// clear deletes what the test made.
func (c *cluster) clear() {
	ctx := context.Background()
	services, err := c.Kube.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	c.must(err)
	for _, s := range services.Items {
		if s.Name == "kubernetes" {
			continue
		}
		if len(s.Finalizers) > 0 {
			_, err := c.Kube.CoreV1().Services(s.Namespace).Patch(ctx, s.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
			c.mustUnless(apierrors.IsNotFound, err)
		}
		c.mustUnless(apierrors.IsNotFound, c.Kube.CoreV1().Services(s.Namespace).Delete(ctx, s.Name, metav1.DeleteOptions{}))
	}
	pools, err := c.Pools.List(ctx, metav1.ListOptions{})
	c.must(err)
	for _, p := range pools.Items {
		c.must(c.Pools.Delete(ctx, p.Name, metav1.DeleteOptions{}))
	}
	for _, a := range c.records() {
		c.must(c.Addresses.Delete(ctx, a.Name, metav1.DeleteOptions{}))
	}
	c.must(c.Kube.CoreV1().Events("default").DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
}

func (c *cluster) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) mustUnless(fine func(error) bool, err error) {
	c.Helper()
	if !fine(err) {
		c.must(err)
	}
}

// eventually asks check until it has no objection, at most a minute.
func (c *cluster) eventually(what string, check func() error) {
	c.Helper()
	deadline := time.After(time.Minute)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			c.Fatalf("%s: %v", what, err)
		}
	}
}

// pool makes a pool.
func (c *cluster) pool(name string, addresses ...string) *v1alpha1.AddressPool {
	c.Helper()
	p, err := c.Pools.Create(c.Context(), &v1alpha1.AddressPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.AddressPoolSpec{Addresses: addresses}}, metav1.CreateOptions{})
	c.must(err)
	return p
}

// editPool changes the spec of a pool.
func (c *cluster) editPool(name string, change func(*v1alpha1.AddressPoolSpec)) {
	c.Helper()
	c.eventually("edit pool "+name, func() error {
		p, err := c.Pools.Get(c.Context(), name, metav1.GetOptions{})
		c.must(err)
		change(&p.Spec)
		_, err = c.Pools.Update(c.Context(), p, metav1.UpdateOptions{})
		return err
	})
}

type change func(*corev1.Service)

func note(key, value string) change {
	return func(s *corev1.Service) {
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		s.Annotations[key] = value
	}
}

func classed(class string) change {
	return func(s *corev1.Service) { s.Spec.LoadBalancerClass = &class }
}

func port(n int32) change { return func(s *corev1.Service) { s.Spec.Ports[0].Port = n } }

// service makes a Service of type LoadBalancer in namespace default.
func (c *cluster) service(name string, changes ...change) *corev1.Service {
	c.Helper()
	s := newService(name)
	for _, f := range changes {
		f(s)
	}
	s, err := c.Kube.CoreV1().Services("default").Create(c.Context(), s, metav1.CreateOptions{})
	c.must(err)
	return s
}

func newService(name string) *corev1.Service {
	no := false
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, AllocateLoadBalancerNodePorts: &no, Ports: []corev1.ServicePort{{Port: 80}},
	}}
}

// edit changes a Service.
func (c *cluster) edit(name string, changes ...change) {
	c.Helper()
	c.eventually("edit "+name, func() error {
		s := c.get(name)
		for _, f := range changes {
			f(s)
		}
		_, err := c.Kube.CoreV1().Services("default").Update(c.Context(), s, metav1.UpdateOptions{})
		return err
	})
}

// editStatus changes the status of a Service, as anybody may who has the right.
func (c *cluster) editStatus(name string, change func(*corev1.ServiceStatus)) {
	c.Helper()
	c.eventually("edit status of "+name, func() error {
		s := c.get(name)
		change(&s.Status)
		_, err := c.Kube.CoreV1().Services("default").UpdateStatus(c.Context(), s, metav1.UpdateOptions{})
		return err
	})
}

func (c *cluster) get(name string) *corev1.Service {
	c.Helper()
	s, err := c.Kube.CoreV1().Services("default").Get(c.Context(), name, metav1.GetOptions{})
	c.must(err)
	return s
}

func (c *cluster) delete(name string) {
	c.Helper()
	c.must(c.Kube.CoreV1().Services("default").Delete(c.Context(), name, metav1.DeleteOptions{}))
}

// gone waits until a Service has been deleted, finalizers and all.
func (c *cluster) gone(name string) {
	c.Helper()
	c.eventually("end of "+name, func() error {
		_, err := c.Kube.CoreV1().Services("default").Get(c.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(fmt.Errorf("it is still there"), err)
	})
}

func ips(s *corev1.Service) string {
	var out []string
	for _, in := range s.Status.LoadBalancer.Ingress {
		out = append(out, in.IP+in.Hostname)
	}
	return strings.Join(out, ",")
}

// holds waits until a Service has just these addresses in its status, by a
// record that says so.
func (c *cluster) holds(name, want string) {
	c.Helper()
	c.eventually(name, func() error {
		s := c.get(name)
		if got := ips(s); got != want {
			return fmt.Errorf("has %q in its status, want %q", got, want)
		}
		if want == "" {
			return nil
		}
		if named := c.recorded(s); named != want {
			return fmt.Errorf("records name it for %q, want %q", named, want)
		}
		return nil
	})
}

// isVIP reports whether an entry of a status says that its address is a VIP, as far
// as the API server stores that: from Kubernetes 1.30 on.
func isVIP(in corev1.LoadBalancerIngress) bool {
	if os.Getenv(lab.VersionEnv) == "1.29" {
		return in.IPMode == nil
	}
	return in.IPMode != nil && *in.IPMode == corev1.LoadBalancerIPModeVIP
}

// recorded lists the addresses whose records name s.
func (c *cluster) recorded(s *corev1.Service) string {
	var out []string
	for _, a := range c.records() {
		for _, h := range a.Spec.Holders {
			if h.UID == s.UID && h.Name == s.Name {
				out = append(out, a.Spec.Address)
			}
		}
	}
	return strings.Join(out, ",")
}

func (c *cluster) records() []v1alpha1.Address {
	list, err := c.Addresses.List(context.Background(), metav1.ListOptions{})
	c.must(err)
	return list.Items
}

// noRecords waits until no Service holds an address. A record that cools down has no holder.
func (c *cluster) noRecords() {
	c.Helper()
	c.eventually("the records' end", func() error {
		for _, a := range c.records() {
			if len(a.Spec.Holders) > 0 || a.Spec.Freed == nil {
				return fmt.Errorf("record %s: %+v", a.Name, a.Spec)
			}
		}
		return nil
	})
}

// refused waits until a Service's condition gives a reason, and a Warning Event
// the same. It returns the condition.
func (c *cluster) refused(name, reason string) metav1.Condition {
	c.Helper()
	var found metav1.Condition
	c.eventually("refusal of "+name, func() error {
		s := c.get(name)
		at := slices.IndexFunc(s.Status.Conditions, func(k metav1.Condition) bool { return k.Type == v1alpha1.ConditionAddressAssigned })
		if at < 0 || s.Status.Conditions[at].Reason != reason {
			return fmt.Errorf("conditions %+v, want the reason %s", s.Status.Conditions, reason)
		}
		found = s.Status.Conditions[at]
		if !slices.Contains(c.events(name), "Warning "+reason) {
			return fmt.Errorf("events %q, want Warning %s", c.events(name), reason)
		}
		return nil
	})
	return found
}

// events lists the Events of a Service as "Type Reason", in the order of their
// writing; one that came again counts as often as it came.
func (c *cluster) events(name string) []string {
	c.Helper()
	list, err := c.Kube.CoreV1().Events("default").List(c.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + name})
	c.must(err)
	slices.SortStableFunc(list.Items, func(a, b corev1.Event) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	var out []string
	for _, e := range list.Items {
		if strings.HasPrefix(e.ReportingController, "ipallocator-") {
			continue // the API server's own, when its repair is faster than what it repairs
		}
		for range max(e.Count, 1) {
			out = append(out, e.Type+" "+e.Reason)
		}
	}
	return out
}

// pooled waits for a pool's counters of one family and the reason of its
// condition Ready: "total/assigned/free Reason".
func (c *cluster) pooled(name, want string) {
	c.Helper()
	c.eventually("pool "+name, func() error {
		p, err := c.Pools.Get(c.Context(), name, metav1.GetOptions{})
		c.must(err)
		n := p.Status.IPv4
		if n.Total == 0 {
			n = p.Status.IPv6
		}
		got := fmt.Sprintf("%d/%d/%d", n.Total, n.Assigned, n.Free)
		for _, k := range p.Status.Conditions {
			if k.Type == v1alpha1.ConditionReady {
				got += " " + k.Reason
			}
		}
		if got != want {
			return fmt.Errorf("%s, want %s", got, want)
		}
		return nil
	})
}

func newMark() *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "mark-"}}
}
